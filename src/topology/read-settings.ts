import { readFileSync } from 'node:fs'
import { RungError } from '../kernel/errors.ts'
import { nearestOf } from '../kernel/typos.ts'
import { rungs } from './catalog.ts'
import { noCdn, type Setting, type SettingName, settings, type Table, type Values, type ValuesOf } from './settings.ts'

/** Where settings come from. Options win over the environment, and the environment wins over the file. */
export interface Sources {
  /** The default export of the file. */
  file?: unknown
  env: Readonly<Record<string, string | undefined>>
  /** By their names without dashes; options that are not settings are ignored. */
  options?: Readonly<Record<string, string | boolean | undefined>>
  /** Whether settings that lead outside are left out. */
  isolated?: boolean
}

/** A given value, and its name in messages: `PORT`, `--port`, `http.port of rung.config.ts`, `RUNG_SECRET_FILE`. */
export interface Given {
  value: unknown
  from: 'file' | 'environment' | 'option'
  called: string
  /** The file that contains it, as `RUNG_SECRET_FILE` names it. */
  file?: string
}

export interface Settings<V = Values> {
  /** All values, including defaults. */
  readonly values: V
  /** The given values by path, without defaults. */
  readonly given: ReadonlyMap<string, Given>
  /** Names of given settings that were left out, as their author wrote them. */
  readonly leftOut: readonly string[]
}

/** Returns every row of a table by its path: `data.url`. */
export function rowsOf(table: Table): ReadonlyMap<string, Setting> {
  return new Map(
    Object.entries(table).flatMap(([name, entry]): [string, Setting][] =>
      isSetting(entry) ? [[name, entry]] : [...rowsOf(entry)].map(([path, row]) => [`${name}.${path}`, row]),
    ),
  )
}

export const allSettings = rowsOf(settings)

/** Returns the paths of these settings, and of all in these groups. */
export function pathsOf(names: readonly SettingName[]): ReadonlySet<string> {
  const isNamed = (path: string) => names.some((name) => path === name || path.startsWith(`${name}.`))
  return new Set([...allSettings.keys()].filter(isNamed))
}

/**
 * Reads and checks all settings.
 * @throws CONFIG_INVALID with a sentence that names the value as its author wrote it
 */
export function readSettings(sources: Sources): Settings {
  checkNames(sources.env)
  const all = readGiven(settings, sources)
  const isLeftOut = (path: string) => sources.isolated === true && allSettings.get(path)!.outside
  const given = new Map([...all].filter(([path]) => !isLeftOut(path)))
  const mode = (given.get('process.mode')?.value as Values['process']['mode'] | undefined) ?? 'production'
  const preset = rungs[(given.get('rung')?.value as Values['rung'] | undefined) ?? '1k']
  const values = fill(settings, given, (row) => row.default({ preset, mode }))
  checkTogether(values)
  return { values, given, leftOut: [...all].flatMap(([path, { called }]) => (isLeftOut(path) ? [called] : [])) }
}

/** The variables of a setting: a secret may also be in a file, as Docker, Kubernetes and systemd hand it over. */
function variablesOf({ variable, secret }: Setting): readonly string[] {
  return secret ? [variable, `${variable}_FILE`] : [variable]
}

/**
 * Refuses a variable that is nearly one of Rung's: it would be without effect. Others may be the app's own.
 * @throws CONFIG_INVALID
 */
function checkNames(env: Sources['env']): void {
  const known = new Set([...allSettings.values()].flatMap(variablesOf))
  const names = [...known].filter((name) => name.startsWith('RUNG_'))
  for (const name of Object.keys(env)) {
    if (!name.startsWith('RUNG_') || known.has(name)) continue
    const open = name.replace(/_FILE$/, '')
    if (known.has(open)) throw invalid(`${name} is not a setting, because ${open} is no secret. Set ${open}.`)
    const meant = nearestOf(name, names)
    if (meant !== undefined) throw invalid(`${name} is not a setting. Write ${meant}.`)
  }
}

/** Reads one setting, whatever the others are. */
export function readSetting<T>(row: Setting<T>, sources: Omit<Sources, 'file'>): T {
  const given = readGiven({ row }, sources).get('row')
  return given ? (given.value as T) : row.default({ preset: rungs['1k'], mode: 'production' })
}

/**
 * Reads the given values of a table: Rung's own, or that of an app's module.
 * @throws CONFIG_INVALID
 */
export function readGiven(table: Table, { file, env, options = {} }: Sources): ReadonlyMap<string, Given> {
  const rows = rowsOf(table)
  const given = new Map(file === undefined ? [] : fromFile(file, rows))
  for (const [path, row] of rows) {
    const fromEnvironment = textIn(env, row)
    if (fromEnvironment) {
      const { text, called, ...file } = fromEnvironment
      given.set(path, { ...parsed(row, text, 'environment', called), ...file })
    }
    const option = row.option === undefined ? undefined : options[row.option]
    if (typeof option === 'string') given.set(path, parsed(row, option, 'option', `--${row.option}`))
  }
  return given
}

/** The text of `RUNG_SECRET`, or of the file that `RUNG_SECRET_FILE` names. */
function textIn(env: Sources['env'], row: Setting): { text: string; called: string; file?: string } | undefined {
  const [named, called] = variablesOf(row).filter((name) => env[name] !== undefined && env[name] !== '')
  if (named === undefined) return undefined
  if (called !== undefined) throw invalid(`${named} and ${called} are both set. Unset one of them.`)
  if (named === row.variable) return { text: env[named]!, called: named }
  const file = env[named]!
  let text: string
  try {
    text = readFileSync(file, 'utf8').trim()
  } catch (cause) {
    // The value is not repeated: it may be the secret itself.
    const { code } = cause as NodeJS.ErrnoException
    throw invalid(`${named} names a file that cannot be read: ${code}. A secret itself belongs in ${row.variable}.`)
  }
  if (text === '') throw invalid(`${named} names ${file}, which is empty. Write the secret into it.`)
  return { text, called: named, file }
}

export function fill<T extends Table>(
  table: T,
  given: ReadonlyMap<string, Given>,
  otherwise: (row: Setting) => unknown,
  above = '',
): ValuesOf<T> {
  const entries = Object.entries(table).map(([name, entry]) => {
    const path = `${above}${name}`
    if (!isSetting(entry)) return [name, fill(entry, given, otherwise, `${path}.`)]
    return [name, given.has(path) ? given.get(path)!.value : otherwise(entry)]
  })
  return Object.fromEntries(entries) as ValuesOf<T>
}

/**
 * Returns given settings as environment variables, for a child process that reads no file.
 * @param wanted the paths that the child needs; all by default
 */
export function environmentOf(given: Settings['given'], wanted: (path: string) => boolean = () => true) {
  const env: Record<string, string> = {}
  for (const [path, { value }] of given) {
    const row = allSettings.get(path)
    if (row && wanted(path)) env[row.variable] = row.type.format(value as never)
  }
  return env
}

/** Returns the files and folders that no image may contain, as given settings name them. */
export function privatePlaces({ given }: Settings): string[] {
  return [...given].flatMap(([path, { value, file }]) => {
    if (file !== undefined) return [file]
    return allSettings.get(path)!.type.isPrivate ? [value as string] : []
  })
}

/** Returns an environment without the variables of settings, for a child process to inherit. */
export function withoutSettings(env: Sources['env']): Record<string, string | undefined> {
  const own = new Set([...allSettings.values()].flatMap(variablesOf))
  return Object.fromEntries(Object.entries(env).filter(([name]) => !own.has(name)))
}

/** How to set it, for messages: `cdn.id in rung.config.ts, or RUNG_CDN_ID`. */
export function waysToSet(path: string): string {
  const { inFile, variable } = allSettings.get(path)!
  return inFile ? `${path} in rung.config.ts, or ${variable}` : variable
}

function checkTogether({ backup, cdn, data, http, mail, nodes, process, tls }: Values): void {
  if ((tls.cert === undefined) !== (tls.key === undefined)) {
    const missing = tls.cert === undefined ? 'tls.cert' : 'tls.key'
    throw invalid(`TLS needs a certificate and its key. Set ${waysToSet(missing)}.`)
  }
  if (tls.cert === undefined && tls.plainPort !== undefined)
    throw invalid(`A second port is for clients of an app with TLS. Set ${waysToSet('tls.cert')}.`)
  if (tls.cert === undefined && tls.hstsDays > 0)
    throw invalid(`Only an app with TLS can ask clients to stay with it. Set ${waysToSet('tls.cert')}.`)
  if (tls.plainPort === http.port)
    throw invalid(`Port ${http.port} cannot be for http and https. Set ${waysToSet('http.port')}, for example to 443.`)
  if (backup.url !== undefined && backup.key === undefined)
    throw invalid(
      'Backups leave this machine only encrypted. Make a key with rung backup key, keep it elsewhere too, and set RUNG_BACKUP_KEY.',
    )
  if (data.url === undefined && data.readUrls.length > 0)
    throw invalid(`Replicas need the URL of their primary. Set ${waysToSet('data.url')}.`)
  if (cdn.name === undefined && (cdn.id !== undefined || cdn.url !== undefined))
    throw invalid(`A CDN needs its name. Set ${waysToSet('cdn.name')}.`)
  if (cdn.name !== undefined && cdn.name !== noCdn && cdn.id === undefined)
    throw invalid(`A CDN needs the id of its service or zone. Set ${waysToSet('cdn.id')}.`)
  if (mail.url !== undefined && mail.from === undefined)
    throw invalid(`A mail server needs a sender of the mail. Set ${waysToSet('mail.from')}.`)
  if (process.edgeUrl !== undefined && process.edgeSecret === undefined)
    throw invalid('RUNG_EDGE_URL needs RUNG_EDGE_SECRET, the secret of the page cache. Set both.')
  if (process.group !== undefined && !Object.hasOwn(nodes, process.group))
    throw invalid(`RUNG_GROUP is ${process.group}, which is no group of RUNG_NODES. Correct one of them.`)
}

function* fromFile(file: unknown, rows: ReadonlyMap<string, Setting>): Generator<[string, Given]> {
  if (!isPlain(file)) throw invalid('rung.config.ts must export an object: export default defineTopology({ … })')
  for (const [path, value] of leaves(file, rows, '')) {
    const row = rows.get(path)
    if (row === undefined) {
      const meant = nearestOf(path, rows.keys())
      const advice =
        meant === undefined ? 'The package has the list: node_modules/rung/docs/settings.md.' : `Write ${meant}.`
      throw invalid(`rung.config.ts has "${path}", which is not a setting. ${advice}`)
    }
    if (!row.inFile)
      throw invalid(`rung.config.ts has "${path}". Remove it, and set ${row.variable} in the environment.`)
    if (value !== undefined) yield [path, checked(row, value, 'file', `${path} of rung.config.ts`)]
  }
}

function* leaves(
  value: Record<string, unknown>,
  rows: ReadonlyMap<string, Setting>,
  above: string,
): Generator<[path: string, value: unknown]> {
  for (const [name, inner] of Object.entries(value)) {
    const path = `${above}${name}`
    const isGroup = [...rows.keys()].some((one) => one.startsWith(`${path}.`))
    if (isGroup && isPlain(inner)) yield* leaves(inner, rows, `${path}.`)
    else yield [path, inner]
  }
}

function parsed(row: Setting, text: string, from: Given['from'], called: string): Given {
  return checked(row, row.type.parse(text), from, called, text)
}

function checked(
  { type, secret }: Setting,
  value: unknown,
  from: Given['from'],
  called: string,
  written: unknown = value,
): Given {
  if (type.accepts(value)) return { value, from, called }
  throw invalid(
    secret
      ? `${called} must ${type.must} (its value is not shown here).`
      : `${called} is ${JSON.stringify(written).replace(/\/\/.*@/, '//…@')}; it must ${type.must}.`,
  )
}

function isSetting(entry: Setting | Table): entry is Setting {
  return typeof (entry as Setting).variable === 'string'
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalid(message: string): RungError {
  return new RungError('CONFIG_INVALID', message)
}
