import fs, { readFileSync, createWriteStream as stream, writeFile as write } from 'node:fs'
import * as promises from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Http } from 'rung'

const writeFile = (text: string) => text.length
const { mkdtempSync } = fs

export function disk(http: Http): void {
  http.get('/disk', async () => {
    stream('uploads/a') // found: disk
    fs.mkdirSync('uploads') // found: disk
    await promises.appendFile('log', 'a') // found: disk
    await fs.promises.rename('/tmp/a', 'uploads/a') // found: disk
    write('a', 'a', () => {}) // found: disk
    await promises.open('a', 'r')
    await promises.open('a', 'a+') // found: disk
    const { copyFile } = await import('node:fs/promises')
    await copyFile('a', path.join(tmpdir(), 'a'))
    const folder = mkdtempSync(path.join(tmpdir(), 'x'))
    const file = path.join(folder, 'a')
    fs.writeFileSync(file, 'a')
    return writeFile('a') + readFileSync(file).length
  })
}
