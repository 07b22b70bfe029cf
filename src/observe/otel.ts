import { atMost } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'

/**
 * Loads packages of the OpenTelemetry SDK, which an app installs only if it sends to a collector.
 * @param variable what asks for them
 * @throws CONFIG_INVALID if they are not installed
 */
export async function loadSdk<Sdk>(
  variable: string,
  packages: readonly string[],
  load: () => Promise<Sdk>,
): Promise<Sdk> {
  try {
    return await load()
  } catch (cause) {
    const names = packages.map((name) => `@opentelemetry/${name}`)
    throw new RungError(
      'CONFIG_INVALID',
      `${variable} is set, but the OpenTelemetry SDK cannot be loaded. Run: npm install ${names.join(' ')}`,
      { cause },
    )
  }
}

/** A collector that does not answer must not hold up a stop. */
const endMsMax = 5_000

/** Sends what is left, as far as the collector takes it in time. Never rejects. */
export function endOf(provider: { shutdown(): Promise<void> }): Promise<void> {
  return atMost(
    endMsMax,
    provider.shutdown().catch(() => {}),
  )
}
