import { buffer } from 'node:stream/consumers'
import { RungError } from '../kernel/errors.ts'
import { formatBytes } from '../kernel/units.ts'
import { type FileInfo, type FileStore, uploadsFolder } from '../primitives/files/contract.ts'
import { openDiskFiles } from '../runtime/wire.ts'
import { type Command, type Input, numberOption, result, settingOptions, unknownVerb } from './command.ts'
import { hiddenBecause } from './development.ts'
import { toolBindings } from './input-settings.ts'
import { cutStart, second, tableLines } from './table.ts'

/** Of so many files, the first by name, the newest are found. */
const lookedAtMax = 10_000

const files: Command = {
  name: 'files',
  summary: 'list the files that the app keeps on the disk, in development',
  usage: 'rung files [list] [options]',
  wordsMax: 1,
  help: [
    'Lists the newest files that the app keeps in the data directory: module and key, size, type,',
    'when it was stored. Files in an S3 store are not here. In development and test only',
    '(NODE_ENV of the app that runs, or of this command): elsewhere it shows nothing.',
  ].join('\n'),
  settings: ['process.dataDir'],
  examples: ['rung files', 'rung files list --last 50 --json'],
  options: {
    last: { type: 'string', value: 'number', help: 'How many are listed (20).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { positionals, out } = input
    const [verb = 'list'] = positionals
    if (verb !== 'list') return unknownVerb(files, verb)
    const last = numberOption(input, 'last', { max: 1_000, otherwise: 20 })
    const bindings = await toolBindings(input)
    const hidden = await hiddenBecause(bindings)
    const found =
      hidden === null
        ? await newestOf(await openDiskFiles(bindings.dataDir), last)
        : { files: [], total: 0, more: false }
    return result({ hidden, ...found }, ({ files, more }) => {
      if (hidden !== null) return out.line(hidden)
      if (files.length === 0) return out.line('The app has stored no file here yet.')
      const rows = files.map(({ key, size, contentType, storedAt }) => [
        ...[cutStart(key, 30), formatBytes(size), contentType, second(Date.parse(storedAt))],
      ])
      for (const line of tableLines([30, -9, 16, 19], [['file', 'size', 'type', 'stored (UTC)'], ...rows]))
        out.line(line)
      if (more) out.line(`Of more than ${lookedAtMax} files only the first by name were looked at.`)
    })
  },
}
export default files

async function newestOf(store: FileStore, last: number) {
  const { files: all, more } = await store.list('', undefined, lookedAtMax)
  const own = all.filter(({ key }) => !key.startsWith(uploadsFolder))
  const newest = own.sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime()).slice(0, last)
  const infos = await Promise.all(newest.map(({ key }) => store.stat(key).catch(() => undefined))) // a damaged one has no facts
  const listed = infos.flatMap((info) => (info ? [listedFile(info)] : []))
  return { files: listed, total: own.length, more }
}

/** Types that browsers draw as a picture and in which nothing runs, unlike SVG. */
const pictures = ['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif']
const pictureBytesMax = 256 * 1024

function listedFile({ key, size, contentType, modifiedAt, sha256 }: FileInfo) {
  const isPicture = pictures.includes(contentType) && size <= pictureBytesMax
  return { key, size, contentType, storedAt: modifiedAt.toISOString(), sha256, isPicture }
}

/** Returns a small picture. @throws COMMAND_INVALID for any other file, and outside development */
export async function pictureOf(
  input: Pick<Input, 'env' | 'values' | 'cwd'>,
  key: string,
): Promise<{ type: string; body: Buffer }> {
  const bindings = await toolBindings(input)
  const hidden = await hiddenBecause(bindings)
  if (hidden !== null) throw new RungError('COMMAND_INVALID', hidden)
  const file = await (await openDiskFiles(bindings.dataDir)).get(key)
  if (file && listedFile(file).isPicture) return { type: file.contentType, body: await buffer(file.body) }
  file?.body.destroy()
  throw new RungError('COMMAND_INVALID', 'There is no such picture.')
}
