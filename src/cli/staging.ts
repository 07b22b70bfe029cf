import path from 'node:path'
import { type Masked, maskPersonal } from '../backup/staging.ts'
import { appDatabase } from '../engines/postgres/recipe.ts'
import { formatMs } from '../kernel/units.ts'
import { type Command, result, settingOptions } from './command.ts'
import { restoreBy, restoreOptions, restoreSettings } from './restore.ts'
import { tableLines } from './table.ts'

const staging: Command = {
  name: 'staging',
  summary: 'make a copy of the latest backup to break, without personal data',
  usage: 'rung staging --into <dir> [options]',
  wordsMax: 0,
  help: [
    'Restores the latest backup into a new data directory and masks what is personal in it, so',
    'that load and faults have a place with real amounts of data. It proves the backup too.',
    '',
    'Comments of columns say what is personal, in a migration:',
    "  comment on column account.email is 'personal: email'",
    '',
    'Other ways: name, secret, text, remove (null or empty), and no (kept). A column with',
    'a name such as email or token must have a comment. Equal values stay equal.',
    '',
    'Jobs, events, sessions, recorded answers and the search are emptied: no mail is sent again,',
    'and a search finds nothing until the app rebuilds its index. Uploaded files are not copied.',
    '',
    'The copy is isolated, whoever starts it: it has new keys, and settings that lead to a',
    'database, Redis, bucket, mail server, CDN or backup folder are not used.',
  ].join('\n'),
  settings: restoreSettings,
  examples: ['rung staging --into .staging', 'NODE_ENV=development RUNG_DATA=.staging rung up 100k'],
  options: { ...settingOptions('process.dataDir'), ...restoreOptions },
  async run(input) {
    const { cwd, out } = input
    let masked: Masked | undefined
    const { into, durationMs, base } = await restoreBy(input, staging, 'latest', async (connection) => {
      out.note('masking personal data')
      masked = await maskPersonal({ ...connection, database: appDatabase })
    })
    const near = path.relative(cwd, into)
    const start = `NODE_ENV=development RUNG_DATA=${near.startsWith('..') ? into : near || '.'} rung up`
    return result({ into, base, durationMs, start, ...masked! }, ({ columns, emptied }) => {
      out.line(`Restored and masked in ${formatMs(durationMs)}`)
      const rows = columns.map(({ column, as, rows }) => [column, as, rows.toLocaleString('en')])
      for (const line of tableLines([50, 8, -12], [['column', 'as', 'rows'], ...rows])) out.line(line)
      out.line(`Emptied: ${emptied.length} tables of Rung (jobs, sessions, answers, search)`)
      out.line(`Start it with: ${start}`)
    })
  },
}
export default staging
