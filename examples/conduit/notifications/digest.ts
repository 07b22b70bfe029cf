import {
  type Data,
  defineJob,
  html,
  isRungError,
  type JobRun,
  type Mail,
  type MailContent,
  noRetry,
  type Tx,
} from 'rung'
import { Type } from 'typebox'
import { mailedUrl } from '../public-url.ts'
import { localTime, nextAt } from './local-time.ts'
import type { Kind, NotificationRow } from './notifications.ts'
import type { Shown } from './present.ts'

export const findDigests = defineJob('notifications.find-digests', Type.Object({}), { fleetConcurrency: 1 })
export const sendDigest = defineJob(
  'notifications.send-digest',
  Type.Object({ accountId: Type.Integer(), day: Type.String() }),
  { concurrency: 5 },
)

const dueAtOnce = 500
/** So many are told of in one mail; the rest by their number. */
const toldMax = 20
const digestedMax = 1_000

interface Due {
  account_id: number
  time_zone: string
  digest_hour: number
}

/** A job for every account whose time has come, and its next time: together, or neither. */
export async function enqueueDue(data: Data): Promise<void> {
  while ((await enqueueSome(data)) === dueAtOnce);
}

async function enqueueSome(data: Data): Promise<number> {
  return data.write(async (tx) => {
    const due = await tx<Due>`
      select account_id, time_zone, digest_hour from notifications.preference where next_digest_at <= now()
      order by next_digest_at limit ${dueAtOnce} for update skip locked`
    if (due.length === 0) return 0
    const now = new Date()
    const ids = due.map(({ account_id }) => account_id)
    // Of the day it is there now, also when the time came while nothing ran: the next one is of another day.
    const days = due.map(({ time_zone }) => localTime(now, time_zone).day)
    const times = due.map(({ digest_hour, time_zone }) => nextAt(digest_hour, time_zone, now))
    await tx`update notifications.preference set next_digest_at = next.at
      from unnest(${ids}::bigint[], ${times}::timestamptz[]) next (account_id, at)
      where preference.account_id = next.account_id`
    const fresh = await tx<{ accountId: number; day: string }>`
      insert into notifications.digest (account_id, day) select * from unnest(${ids}::bigint[], ${days}::date[])
      on conflict do nothing returning account_id as "accountId", day::text as day`
    for (const one of fresh) tx.enqueue(sendDigest, one, { unique: `${one.accountId}/${one.day}` })
    return due.length
  })
}

export interface DigestParts {
  data: Data
  mail: Mail
  present(rows: readonly NotificationRow[]): Promise<Shown[]>
  addressOf(accountId: number): Promise<{ email: string; username: string } | null>
  unsubscribeUrl(accountId: number): string
}

/**
 * At most one a day: that it begins is noted before the mail leaves, and who finds that noted sends nothing. A process that is
 * killed in the moment between costs the account this mail; its news come with the next one, as they were never called told.
 */
export async function deliverDigest(
  { data, mail, present, addressOf, unsubscribeUrl }: DigestParts,
  { accountId, day }: { accountId: number; day: string },
  run: JobRun<Tx>,
): Promise<void> {
  const rows = await untold(data, accountId)
  const recipient = rows.length > 0 ? await addressOf(accountId) : null
  if (!recipient) return
  const content = contentOf(recipient.username, await present(rows.slice(0, toldMax)), rows.length)
  if (!(await begin(data, accountId, day))) return
  try {
    const unsubscribe = unsubscribeUrl(accountId)
    const text = `${content.text}\n\nNo more of these mails: ${unsubscribe}\n`
    await mail.send({ ...content, text, to: recipient.email, key: `digest/${accountId}/${day}`, unsubscribe })
  } catch (error) {
    await data.write(
      (tx) =>
        tx`update notifications.digest set begun_at = null where account_id = ${accountId} and day = ${day}::date`,
    )
    throw isRungError(error, 'MAIL_UNAVAILABLE') ? error : noRetry(error)
  }
  await run.complete(async (tx) => {
    await tx`update notifications.digest set sent_at = now() where account_id = ${accountId} and day = ${day}::date`
    await tx`update notifications.notification set digested_at = now() where id = any(${rows.map(({ id }) => id)})`
  })
}

async function untold(data: Data, accountId: number): Promise<NotificationRow[]> {
  return data.read(
    (sql) => sql<NotificationRow>`
      select id, kind, actor_id, subject_id, article_id, created_at, false as read
      from notifications.notification where account_id = ${accountId} and read_at is null and digested_at is null
      order by id desc limit ${digestedMax}`,
  )
}

/** False when it was begun before, or is not wanted any more. */
async function begin(data: Data, accountId: number, day: string): Promise<boolean> {
  const begun = await data.write(
    (tx) => tx`
      update notifications.digest set begun_at = now()
      where account_id = ${accountId} and day = ${day}::date and begun_at is null
        and exists (select from notifications.preference where account_id = ${accountId} and digest = 'daily')
      returning account_id`,
  )
  return begun.length > 0
}

const did: Record<Kind, string> = {
  follow: 'follows you',
  comment: 'commented on',
  favorite: 'favored',
}

function contentOf(username: string, shown: readonly Shown[], total: number): MailContent {
  const lines = shown.map(({ actor, kind, article }) => ({
    sentence: `${actor.username} ${did[kind]}${article ? ` ${JSON.stringify(article.title)}` : ''}`,
    url: mailedUrl(article ? `/article/${article.slug}` : `/profile/${encodeURIComponent(actor.username)}`),
  }))
  const more = total > shown.length ? `… and ${total - shown.length} more.` : ''
  return {
    subject: total === 1 ? 'One new notification on Conduit' : `${total} new notifications on Conduit`,
    text: [`Hello ${username},`, '', ...lines.map(({ sentence, url }) => `- ${sentence}: ${url}`), more].join('\n'),
    html: html`<p>Hello ${username},</p>
<ul>${lines.map(({ sentence, url }) => html`<li><a href="${url}">${sentence}</a></li>`)}</ul><p>${more}</p>`,
  }
}
