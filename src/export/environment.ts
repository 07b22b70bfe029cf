import { allSettings, environmentOf, type Settings } from '../topology/read-settings.ts'
import { noConfig } from '../topology/settings.ts'
import type { Exported } from './files.ts'

/** Where a process of the app listens in its container. */
export const appPort = 3000

/** Settings that the export itself decides, or that are those of `rung up`. */
const decided =
  /^(rung|edge|balancer|nodes\..*|(http|tls)\..*|data\.(url|readUrls|replicas|pooler)|cache\.url|files\.shared|processes\.schedule|backup\..*|unresponsiveAfterMs|process\..*)$/

/** Returns the given settings that are no secrets, as environment variables of the app. */
export function plainSettings({ given }: Settings): Record<string, string> {
  return environmentOf(given, (path) => !decided.test(path) && !allSettings.get(path)!.secret)
}

/** Returns the variables of the given settings that are secrets. Their values are written nowhere. */
export function secretNames({ given }: Settings): string[] {
  return [...given.keys()].flatMap((path) => {
    const row = allSettings.get(path)!
    return row.secret && !decided.test(path) ? [row.variable] : []
  })
}

/** What only `rung up` does. */
const onlyFleet =
  /^(backup\..*|http\.(host|port)|tls\..*|nodes\.zones|processes\.schedule|process\.build|unresponsiveAfterMs)$/

/** Returns the names of given settings that have no effect there, as their author wrote them. */
export function leftOut({ given }: Settings): string[] {
  return [...given].flatMap(([path, { called }]) => (onlyFleet.test(path) ? [called] : []))
}

/** Returns the networks of proxies that somebody has named, by a setting or in the app. */
export function namedProxies({ settings, app }: Exported): readonly string[] {
  return [...settings.values.http.trustProxy, ...app.trustedProxies]
}

/** Returns what each process of the app is told, wherever it runs. */
export function commonSettings(settings: Settings, proxies: readonly string[]): Record<string, string> {
  return {
    RUNG_TOPOLOGY: settings.values.rung,
    RUNG_CONFIG: noConfig,
    RUNG_TRUST_PROXY: [...new Set([...settings.values.http.trustProxy, ...proxies])].join(','),
    ...plainSettings(settings),
  }
}
