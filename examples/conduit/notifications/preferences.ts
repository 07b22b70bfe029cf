import type { Data } from 'rung'
import { refuse } from '../errors.ts'
import { isTimeZone, nextAt } from './local-time.ts'

export interface Preferences {
  digest: 'none' | 'daily'
  timeZone: string
  digestHour: number
}

const untouched: Preferences = { digest: 'none', timeZone: 'UTC', digestHour: 7 }

export async function preferencesOf(data: Data, accountId: number): Promise<Preferences> {
  const [row] = await data.read(
    (sql) => sql<Preferences>`
      select digest, time_zone as "timeZone", digest_hour as "digestHour"
      from notifications.preference where account_id = ${accountId}`,
  )
  return row ?? untouched
}

export async function setPreferences(data: Data, accountId: number, wanted: Preferences): Promise<Preferences> {
  const { digest, timeZone, digestHour } = wanted
  if (!isTimeZone(timeZone)) throw refuse('HTTP_VALIDATION', 'timeZone', 'is no IANA time zone')
  const nextDigestAt = digest === 'daily' ? nextAt(digestHour, timeZone, new Date()) : null
  await data.write(
    (tx) => tx`
      insert into notifications.preference (account_id, digest, time_zone, digest_hour, next_digest_at)
      values (${accountId}, ${digest}, ${timeZone}, ${digestHour}, ${nextDigestAt})
      on conflict (account_id) do update set digest = excluded.digest, time_zone = excluded.time_zone,
        digest_hour = excluded.digest_hour, next_digest_at = excluded.next_digest_at`,
  )
  return wanted
}

/** As often as somebody asks for it. */
export async function unsubscribe(data: Data, accountId: number): Promise<void> {
  await data.write(
    (tx) =>
      tx`update notifications.preference set digest = 'none', next_digest_at = null where account_id = ${accountId}`,
  )
}
