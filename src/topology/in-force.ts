import { rungs } from './catalog.ts'
import { allSettings, type Settings } from './read-settings.ts'
import type { Setting, Values } from './settings.ts'
import { topologyOf } from './topology-of.ts'

/** One setting as it is in force. */
export interface InForce {
  /** Its name in `rung.config.ts`, whether it may be there or not: `data.url`. */
  readonly setting: string
  readonly variable: string
  /** As text; `null` where it has no value, and for a secret. */
  readonly value: string | null
  /** Whether it has a value, which is not shown. */
  readonly hidden: boolean
  readonly from: 'default' | 'rung' | 'mode' | 'file' | 'environment' | 'option'
  /** As it was written: `PORT`, `--port`, `RUNG_SECRET_FILE`, `http.port of rung.config.ts`. */
  readonly called: string | null
}

/** Returns all settings with their values and where these come from. Pure. */
export function settingsInForce({ values, given }: Settings): readonly InForce[] {
  const { rung, process } = values
  const counts = topologyOf({ values }).processes
  return [...allSettings].map(([setting, row]) => {
    const { variable, secret } = row
    const one = given.get(setting)
    const value = one ? one.value : (valueAt(values, setting) ?? countAt(setting, counts))
    const text = value === undefined ? '' : row.type.format(value as never)
    return {
      setting,
      variable,
      value: text === '' || secret ? null : text,
      hidden: text !== '' && secret,
      from: one?.from ?? origin(row, setting, rung, process.mode),
      called: one?.called ?? null,
    }
  })
}

function valueAt(values: Values, setting: string): unknown {
  return setting.split('.').reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], values)
}

/** The settings have no defaults for these, because any number of one of them splits the process for both. */
function countAt(setting: string, counts: Readonly<Record<string, number>>): number | undefined {
  const count = counts[/^processes\.(web|worker)$/.exec(setting)?.[1] ?? '']
  return count === 0 ? undefined : count
}

function origin({ type, ...row }: Setting, setting: string, rung: Values['rung'], mode: Values['process']['mode']) {
  const text = (preset: Values['rung'], of: typeof mode) => {
    const value = row.default({ preset: rungs[preset], mode: of })
    return value === undefined ? '' : type.format(value as never)
  }
  if (/^processes\.(web|worker)$/.test(setting)) return rungs[rung].processes.both > 0 ? 'default' : 'rung'
  if (text(rung, mode) !== text('1k', mode)) return 'rung'
  return text(rung, mode) === text(rung, 'production') ? 'default' : 'mode'
}
