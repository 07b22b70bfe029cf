import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { codeOf, removeAbandoned, writeAll, writeAtomically } from '../../engines/disk/atomic.ts'
import { type Clock, systemClock } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { uuid } from '../../kernel/random.ts'
import type { ComposedMail, MailTransport } from './contract.ts'
import type { Inbox } from './inbox.ts'

export interface EmlOptions {
  folder: string
  /** Called before each write, to create the place of the folder. */
  prepare?: () => Promise<unknown>
  onWritten?: (file: string) => void
  clock?: Clock
}

const name = /^(\d{8}T\d{9}Z-[0-9a-f]{8})\.eml$/

/** Writes each mail to an `.eml` file in a folder, and reads it there. The file begins with the envelope, as two headers. */
export async function emlMail(options: EmlOptions): Promise<MailTransport & Inbox> {
  const { folder, prepare, onWritten, clock = systemClock } = options
  const drafts = path.join(folder, '.drafts')
  await removeAbandoned(drafts).catch((error) => {
    throw unwritable(error)
  })

  return {
    async send(mail) {
      const at = new Date(clock.now()).toISOString().replace(/[-:.]/g, '')
      const target = path.join(folder, `${at}-${uuid().slice(0, 8)}.eml`)
      const bytes = Buffer.concat([Buffer.from(envelopeOf(mail)), mail.content])
      try {
        await prepare?.()
        await writeAtomically({ drafts, target, replace: false }, (file) => writeAll(file, bytes, 0))
      } catch (cause) {
        throw unwritable(cause)
      }
      onWritten?.(target)
      return []
    },

    async close() {},

    async list(limit) {
      const names = await readdir(folder).catch((error) => {
        if (codeOf(error) === 'ENOENT') return []
        throw error
      })
      const ids = names.flatMap((file) => name.exec(file)?.[1] ?? [])
      return ids.sort().reverse().slice(0, limit)
    },

    async read(id) {
      if (!name.test(`${id}.eml`)) return undefined
      return readFile(path.join(folder, `${id}.eml`)).catch((error) => {
        if (codeOf(error) === 'ENOENT') return undefined
        throw error
      })
    },
  }
}

function unwritable(cause: unknown): RungError {
  return new RungError('MAIL_UNAVAILABLE', 'The mail cannot be written. The log has the reason.', { cause })
}

/** The addresses have been checked, so they contain no line break. */
function envelopeOf({ from, to }: ComposedMail): string {
  return `X-Envelope-From: <${from}>\r\nX-Envelope-To: ${to.map((one) => `<${one}>`).join(',\r\n ')}\r\n`
}
