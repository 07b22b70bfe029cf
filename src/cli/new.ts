import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { type Command, result } from './command.ts'
import { dependencyFor, ownPackage } from './own-package.ts'
import { scaffold } from './scaffold.ts'

const command: Command = {
  name: 'new',
  summary: 'create a small app to begin with',
  usage: 'rung new <name>',
  wordsMax: 1,
  help: 'Creates a folder with an app of one module: a migration, routes and a test.',
  examples: ['rung new my-app'],
  options: {},
  async run({ positionals, cwd, out }) {
    const [name] = positionals
    if (!name || !/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) {
      throw new RungError('COMMAND_INVALID', 'Give the app a name in kebab-case: rung new my-app')
    }
    const folder = path.join(cwd, name)
    if (existsSync(folder)) throw new RungError('COMMAND_INVALID', `${name} exists already. Choose another name.`)
    const own = await ownPackage()
    const { version, dependencies, devDependencies } = own
    const rung = await dependencyFor(folder, own)
    const install = rung === undefined ? `npm install /path/to/rung-${version}.tgz` : 'npm install'
    const { typescript, '@types/node': types } = devDependencies
    const versions = { rung, typebox: dependencies.typebox!, typescript: typescript!, types: types! }
    const files = scaffold(name, versions, install)
    for (const [file, text] of Object.entries(files)) {
      const target = path.join(folder, file)
      await mkdir(path.dirname(target), { recursive: true })
      await writeFile(target, text)
    }
    return result({ folder, files: Object.keys(files), rung: rung ?? null, install }, (view) => {
      out.line(`Created ${name}:`)
      for (const file of view.files) out.line(`  ${file}`)
      out.line(`\nNext:\n  cd ${name}\n  ${install}\n  npm run dev\n  npm run check && npm test`)
      if (rung === undefined) {
        out.line(
          '\n/path/to is the folder of the file that "npm pack" made of Rung. Do not install "rung"\nby its name: on npm it belongs to another project.',
        )
      }
    })
  },
}
export default command
