import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import type { Command } from './command.ts'
import { scaffold } from './scaffold.ts'

const command: Command = {
  name: 'new',
  summary: 'make a small app to begin with',
  usage: 'rung new <name>',
  help: 'Makes a folder with an app of one module: a migration, routes and a test.',
  examples: ['rung new my-app'],
  options: {},
  async run({ positionals, cwd, json, out }) {
    const [name] = positionals
    if (!name || !/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) {
      throw new RungError('CONFIG_INVALID', 'Give the app a name in kebab-case: rung new my-app')
    }
    const folder = path.join(cwd, name)
    if (existsSync(folder))
      throw new RungError('CONFIG_INVALID', `There is a ${name} here already. Choose another name.`)
    const files = scaffold(name, await versions())
    for (const [file, text] of Object.entries(files)) {
      const target = path.join(folder, file)
      await mkdir(path.dirname(target), { recursive: true })
      await writeFile(target, text)
    }
    if (json) out.json({ folder, files: Object.keys(files) })
    else {
      out.line(`Made ${name}:`)
      for (const file of Object.keys(files)) out.line(`  ${file}`)
      out.line(`\nNext:\n  cd ${name}\n  npm install\n  npm run dev\n  npm test`)
    }
    return 0
  },
}
export default command

/** The app gets the very versions that this Rung was made with. */
async function versions(): Promise<{ rung: string; typebox: string }> {
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8')
  const { version, dependencies } = JSON.parse(text) as { version: string; dependencies: Record<string, string> }
  return { rung: version, typebox: dependencies.typebox! }
}
