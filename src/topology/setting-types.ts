import { isIP } from 'node:net'
import { parseAddress } from '../kernel/mail-address.ts'
import { parseScheduleEntry } from './schedule.ts'

/** The type of a setting's values: text in the environment and on the command line, `T` in `rung.config.ts`. */
export interface SettingType<T> {
  /** Parses text. Text that cannot be parsed is returned as it is, and `accepts` refuses it. */
  parse(text: string): unknown
  accepts(value: unknown): boolean
  /** The inverse of `parse`. */
  format(value: T): string
  /** Completes "PORT must …". */
  must: string
  /** Stands for the value in `--help`. */
  placeholder: string
  /** Whether it names a file or a folder that no image may contain: keys, data, backups. */
  isPrivate?: boolean
}

const isText = (value: unknown): value is string => typeof value === 'string'
const asIs = { parse: (text: string): unknown => text, format: (value: string) => value }

export function text<T extends string = string>(
  accepts: (value: string) => boolean,
  must: string,
  placeholder = 'text',
): SettingType<T> {
  return { ...asIs, accepts: (value) => isText(value) && accepts(value), must, placeholder }
}

export function oneOf<const T extends string>(allowed: readonly T[]): SettingType<T> {
  return text((value) => allowed.some((one) => one === value), `be one of ${allowed.join(', ')}`, 'name')
}

/** A file or a folder. Line breaks would add lines to the units and configurations that name it. */
export function place(what: 'file' | 'folder', isPrivate = true): SettingType<string> {
  const accepts = (value: string) => value !== '' && !/\p{Cc}/u.test(value)
  return { ...text(accepts, `name a ${what}, without line breaks or other control characters`, what), isPrivate }
}

export const onOrOff = oneOf(['on', 'off'])

/** A whole number. With `orZero`, 0 is accepted too, and has this meaning. */
export function whole(least: number, most: number, orZero?: string): SettingType<number> {
  const range = `a whole number from ${least} to ${most}`
  return {
    parse: (digits) => (/^\d+$/.test(digits) ? Number(digits) : digits),
    accepts: (value) =>
      Number.isInteger(value) &&
      ((Number(value) >= least && Number(value) <= most) || (orZero !== undefined && value === 0)),
    format: String,
    must: orZero === undefined ? `be ${range}` : `be 0, for ${orZero}, or ${range}`,
    placeholder: 'number',
  }
}

/** A whole number, or two between which a number is found, as text: `2..8`. */
export function wholeOrRange(least: number, most: number): SettingType<number | string> {
  const one = whole(least, most)
  return {
    parse: one.parse,
    accepts(value) {
      const range = rangeIn(value)
      return range ? range.least >= least && range.most <= most && range.least < range.most : one.accepts(value)
    },
    format: String,
    must: `be a whole number from ${least} to ${most}, or two of them: 2..8`,
    placeholder: 'number',
  }
}

/** Parses `2..8`. */
export function rangeIn(value: unknown): { least: number; most: number } | undefined {
  const match = isText(value) ? /^(\d{1,3})\.\.(\d{1,3})$/.exec(value) : null
  return match ? { least: Number(match[1]), most: Number(match[2]) } : undefined
}

/** As text separated by commas. */
const list = {
  parse: (text: string): unknown =>
    text
      .split(',')
      .map((one) => one.trim())
      .filter(Boolean),
  format: (values: readonly string[]) => values.join(','),
}

/** Least numbers at times of the week. */
export const schedule: SettingType<readonly string[]> = {
  ...list,
  accepts: (value) =>
    Array.isArray(value) && value.every((one) => isText(one) && parseScheduleEntry(one) !== undefined),
  must: 'be a list such as mon-fri 08:00-18:00 4, sat 10:00-14:00 2, in UTC',
  placeholder: 'times',
}

/** A share: 0 to 1. */
export const share: SettingType<number> = {
  parse: (digits) => (/^\d*\.?\d+$/.test(digits) ? Number(digits) : digits),
  accepts: (value) => typeof value === 'number' && value >= 0 && value <= 1,
  format: String,
  must: 'be a number from 0 to 1',
  placeholder: 'number',
}

/** Cores of a machine, also parts of one. */
export const cores: SettingType<number> = {
  ...share,
  accepts: (value) => typeof value === 'number' && value >= 0.01 && value <= 64,
  must: 'be a number of cores from 0.01 to 64',
}

/** Addresses and networks. */
export const networks: SettingType<readonly string[]> = {
  ...list,
  accepts: (value) => Array.isArray(value) && value.every(isNetwork),
  must: 'name addresses or networks: 127.0.0.1, 10.0.0.0/8',
  placeholder: 'networks',
}

function isNetwork(value: unknown): boolean {
  if (!isText(value)) return false
  const [host, bits, ...more] = value.split('/')
  const family = isIP(host!)
  const fits = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
  return family !== 0 && fits && more.length === 0
}

/** Short names in small letters, each different from the others. */
export const names: SettingType<readonly string[]> = {
  ...list,
  accepts: (value) => Array.isArray(value) && value.every(isName) && new Set(value).size === value.length,
  must: 'name each once, in small letters: a, b',
  placeholder: 'names',
}

export function isName(value: unknown): boolean {
  return isText(value) && /^[a-z][a-z0-9-]{0,30}$/.test(value)
}

/** Modules that have processes of their own. A role without a process is left to the processes that have no group. */
export interface NodeGroup {
  readonly modules: readonly string[]
  /** Number of processes that answer the requests and calls of its modules. */
  readonly web?: number
  /** Number of processes that run their jobs and handle their events. */
  readonly worker?: number
  /** Connections of each of these processes for reads, and as many for writes. Default 5. */
  readonly connections?: number
}

/** Groups by name, whose processes are named after them: `media-web-1`. */
export const nodeGroups: SettingType<Readonly<Record<string, NodeGroup>>> = {
  parse(text) {
    try {
      return JSON.parse(text)
    } catch {
      return text
    }
  },
  accepts: (value) =>
    isRecord(value) &&
    Object.keys(value).length <= groupsMax &&
    Object.entries(value).every(isNodeGroup) &&
    isEachModuleOnce(value as never),
  format: (value) => (Object.keys(value).length === 0 ? '' : JSON.stringify(value)),
  must: 'name at most 8 groups in small letters, each with modules that no other group has and 1 to 64 processes: { media: { modules: ["avatars"], web: 1, worker: 2 } }',
  placeholder: 'groups',
}

/** A balancer has places for so many groups, which it needs from its start. */
export const groupsMax = 8

/** Names of other parts of a fleet. */
const takenNames = new Set(['app', 'core', 'web', 'worker', 'both'])

function isNodeGroup([name, group]: [string, unknown]): boolean {
  if (!isName(name) || takenNames.has(name) || !isRecord(group)) return false
  const { modules, web = 0, worker = 0, connections = 1, ...others } = group
  const isCount = (count: unknown) => Number.isInteger(count) && Number(count) >= 0 && Number(count) <= 64
  return (
    Array.isArray(modules) &&
    modules.length > 0 &&
    modules.every((one) => isText(one) && /^[a-z][a-z0-9-]*$/.test(one)) &&
    isCount(web) &&
    isCount(worker) &&
    isCount(connections) &&
    Number(connections) > 0 &&
    Number(web) + Number(worker) > 0 &&
    Object.keys(others).length === 0
  )
}

function isEachModuleOnce(groups: Readonly<Record<string, NodeGroup>>): boolean {
  const modules = Object.values(groups).flatMap((group) => group.modules)
  return new Set(modules).size === modules.length
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Addresses of mail. */
export const addresses: SettingType<readonly string[]> = {
  ...list,
  accepts: (value) =>
    Array.isArray(value) && value.length <= 50 && value.every((one) => isText(one) && parseAddress(one) !== undefined),
  must: 'be a list of addresses such as ops@example.org, ann@example.org',
  placeholder: 'addresses',
}

/** A URL that may contain a password; `form` is an example. */
export function url(accepts: (value: string) => boolean, form: string): SettingType<string> {
  return text(accepts, `have the form ${form}, ${encoded}`, 'url')
}

/** Several such URLs. */
export function urls(accepts: (value: string) => boolean, form: string): SettingType<readonly string[]> {
  return {
    ...list,
    accepts: (value) => Array.isArray(value) && value.every((one) => isText(one) && !one.includes(',') && accepts(one)),
    must: `be a list of URLs of the form ${form}, ${encoded}`,
    placeholder: 'urls',
  }
}

const encoded = 'with signs like @ : / , in a password written as %40 %3A %2F %2C'

/** A root of keys and the time until which it is accepted, in ms since the epoch. */
export interface Root {
  root: string
  untilMs: number
}

/** Returns the lines of a secret, without the blanks and line ends that an editor adds. */
export function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
}

/**
 * Parses the lines of a secret: the root from which keys are derived, then roots that are accepted besides, each perhaps until a time:
 * `root@2027-01-31`, `root@2027-01-31T12:00:00Z`. The first line has no time, and an `@` in the others is followed by one: a typing error
 * there would make another root, which accepts nothing.
 */
export function parseRoots(text: string): { root: string; also: readonly Root[] } | undefined {
  const [root = '', ...lines] = linesOf(text)
  const also = lines.map(parseRoot)
  const isRoot = root.length >= 32 && timeIn(root) === undefined
  return isRoot && also.every((one) => one !== undefined) ? { root, also } : undefined
}

function parseRoot(line: string): Root | undefined {
  const untilMs = line.includes('@') ? timeIn(line) : Number.POSITIVE_INFINITY
  const root = untilMs === Number.POSITIVE_INFINITY ? line : line.slice(0, line.lastIndexOf('@'))
  return untilMs === undefined || root.length < 32 ? undefined : { root, untilMs }
}

/** The time at the end of a line, in ms since the epoch. */
function timeIn(line: string): number | undefined {
  const [, day, time = 'T00:00:00Z'] = /@(\d{4}-\d\d-\d\d)(T\d\d:\d\d:\d\dZ)?$/.exec(line) ?? []
  const ms = Date.parse(`${day}${time}`)
  return day !== undefined && !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(day) ? ms : undefined
}

/** The id of a build, which is also the name of a folder. */
export function isBuild(value: string): boolean {
  return /^[A-Za-z0-9][\w.-]{0,63}$/.test(value)
}
