import { RungError } from '../kernel/errors.ts'
import type { Inbox } from '../primitives/mail/inbox.ts'
import { type ReadMessage, readMessage } from '../primitives/mail/read-message.ts'
import { openInbox } from '../runtime/wire.ts'
import { type Command, numberOption, result, settingOptions, unknownVerb } from './command.ts'
import { hiddenBecause } from './development.ts'
import { toolBindings } from './input-settings.ts'
import { second, tableLines } from './table.ts'

interface ListedMail {
  id: string
  /** ISO 8601. */
  at: string
  from: string
  /** All recipients, also those that no header names. */
  to: string
  subject: string
  /** Bytes of the whole message. */
  size: number
  hasHtml: boolean
}

const mail: Command = {
  name: 'mail',
  summary: 'list the mails that were written and not sent, in development',
  usage: 'rung mail [list | show <id>] [options]',
  wordsMax: 2,
  help: [
    'Without RUNG_SMTP_URL mail is not sent: each is written to a file in the data directory.',
    'Lists the newest, or shows one with its headers and its text. In development and test only',
    '(NODE_ENV of the app that runs, or of this command): elsewhere it shows nothing.',
    '',
    'The page of the console and /-/mail of the app show their HTML too.',
  ].join('\n'),
  settings: ['process.dataDir'],
  examples: ['rung mail', 'rung mail list --last 50 --json', 'rung mail show 20261130T232626983Z-58697cc6'],
  options: {
    last: { type: 'string', value: 'number', help: 'How many are listed (20).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { positionals, out } = input
    const [verb = 'list', id] = positionals
    if (verb !== 'list' && verb !== 'show') return unknownVerb(mail, verb)
    const last = numberOption(input, 'last', { max: 1_000, otherwise: 20 })
    const bindings = await toolBindings(input)
    const hidden = await hiddenBecause(bindings)
    if (verb === 'show') {
      if (id === undefined) throw new RungError('COMMAND_INVALID', 'Name a mail, as rung mail lists them.')
      if (hidden !== null) throw new RungError('COMMAND_INVALID', hidden)
      return result(await mailOf(await openInbox(bindings.dataDir), id), ({ headers, text }) => {
        for (const [name, value] of Object.entries(headers)) out.line(`${name}: ${value}`)
        out.line()
        out.line(text ?? '(no text)')
      })
    }
    if (id !== undefined) return unknownVerb(mail, `list ${id}`)
    const { mails, total } =
      hidden === null ? await listedIn(await openInbox(bindings.dataDir), last) : { mails: [], total: 0 }
    return result({ hidden, mails, total }, () => {
      if (hidden !== null) return out.line(hidden)
      if (mails.length === 0)
        return out.line('No mail yet. Mail of the app is written here while RUNG_SMTP_URL is not set.')
      for (const { id, at, to, subject } of mails) {
        const [line] = tableLines([19, 59], [[second(Date.parse(at)), to]])
        out.line(line)
        out.line(`  ${subject || '(no subject)'}`)
        out.line(`  rung mail show ${id}`)
      }
    })
  },
}
export default mail

async function listedIn(inbox: Inbox, last: number): Promise<{ mails: ListedMail[]; total: number }> {
  const ids = await inbox.list(Number.POSITIVE_INFINITY)
  const mails = await Promise.all(
    ids.slice(0, last).map(async (id) => {
      const content = await inbox.read(id)
      return content ? [listed(id, content.length, readMessage(content))] : []
    }),
  )
  return { mails: mails.flat(), total: ids.length }
}

function listed(id: string, size: number, { headers, html }: ReadMessage): ListedMail {
  const of = (name: string) => headers.get(name) ?? ''
  const to = of('x-envelope-to').replace(/[<>]/g, '').replaceAll(',', ', ')
  return { id, at: timeOf(id), from: of('from'), to, subject: of('subject'), size, hasHtml: html !== undefined }
}

/** `20261130T232626983Z-58697cc6` begins with when it was written. */
function timeOf(id: string): string {
  return id.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z.*$/, '$1-$2-$3T$4:$5:$6.$7Z')
}

/** @throws COMMAND_INVALID */
async function mailOf(inbox: Inbox, id: string) {
  const content = await inbox.read(id)
  if (!content) throw new RungError('COMMAND_INVALID', `There is no mail "${id}". See: rung mail`)
  const { headers, text, html } = readMessage(content)
  return { id, at: timeOf(id), headers: Object.fromEntries(headers), text: text ?? null, html: html ?? null }
}
