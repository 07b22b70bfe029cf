import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { until, withScratch } from '../support/process.ts'

/** An app in a folder of its own, outside of this repository. */
function writeApp(folder: string, answer: string): string {
  const index = fileURLToPath(new URL('../../src/index.ts', import.meta.url))
  mkdirSync(path.join(folder, 'words'), { recursive: true })
  writeFileSync(
    path.join(folder, 'app.ts'),
    `import { defineApp } from '${index}'\nimport { words } from './words/module.ts'\n\nexport default defineApp({ name: 'tiny', modules: [words] })\n`,
  )
  const module = path.join(folder, 'words', 'module.ts')
  writeFileSync(
    module,
    `import { defineModule } from '${index}'

type Word = { word: string }

export const words = defineModule({
  name: 'words',
  owner: 'everybody',
  routes(http) {
    http.get('/word', (): Word => ${answer})
  },
})
`,
  )
  return module
}

test('rung dev reads .env, also when it changes; the environment wins', () =>
  withScratch(async ({ dir, launch }) => {
    const folder = path.join(dir, 'tiny')
    writeApp(folder, "({ word: [process.env.WORD, process.env.OTHER, process.env.NODE_ENV].join(' ') })")
    writeFileSync(path.join(folder, '.env'), 'WORD="one" # a comment\nOTHER=file\n')
    const dev = launch({ command: ['dev'], cwd: folder, env: { OTHER: 'environment' } })
    const says = (word: string) =>
      until(async () => {
        const url = [...dev.stdout().matchAll(/app +(http:\S+)/g)].at(-1)?.[1]
        const got = url && (await fetch(`${url}/word`).catch(() => undefined))
        return got && (await got.text()) === `{"word":"${word} environment development"}`
      }, `it says ${word}`)
    await says('one')
    writeFileSync(path.join(folder, '.env'), 'WORD=two\nOTHER=file\n')
    await says('two')
    assert.equal((await dev.stop()).code, 0)
  }))

test('rung dev restarts the app however a file is saved, and after a mistake', () =>
  withScratch(async ({ dir, launch }) => {
    const folder = path.join(dir, 'tiny')
    const module = writeApp(folder, "({ word: 'zero' })")
    const dev = launch({ command: ['dev'], cwd: folder })
    const answer = async () => {
      const url = [...dev.stdout().matchAll(/app +(http:\S+)/g)].at(-1)?.[1]
      const got = url && (await fetch(`${url}/word`).catch(() => undefined))
      return got ? await got.text() : undefined
    }
    const says = (word: string) => until(async () => (await answer()) === `{"word":"${word}"}`, `it says ${word}`)
    const rename = (text: string) => {
      writeFileSync(`${module}.new`, text)
      renameSync(`${module}.new`, module)
    }
    await says('zero')
    const source = readFileSync(module, 'utf8')
    for (const word of ['one', 'two', 'three']) {
      rename(source.replace('zero', word))
      await says(word)
    }
    rename(`${source}throw new Error('not yet')\n`)
    await until(() => dev.stderr().includes('Waiting for a change'), 'the mistake is told')
    rename(source.replace('zero', 'four'))
    await says('four')
    assert.equal((await dev.stop()).code, 0)
  }))
