import { RungError } from '../kernel/errors.ts'
import type { NewItem } from '../primitives/jobs/items.ts'
import { type Line, noRetry } from '../primitives/jobs/worker.ts'
import type { Mail } from '../primitives/mail/mail.ts'
import type { AlertsBinding } from '../topology/bindings.ts'

/** What is told of alerts, once. */
export interface AlertMessage {
  /** The same for each try: by it a receiver can drop what it has already. */
  readonly key: string
  /** One line. */
  readonly subject: string
  readonly text: string
}

export const alertQueue = 'rung.alerts'
const names = { webhook: 'rung.alerts.webhook', mail: 'rung.alerts.mail' } as const
const timeoutMs = 15_000
/** With the backoff below some four hours. */
const attemptsMax = 50

/** Returns a job for each way in which alerts are told: one that fails does not make the other one tell it twice. */
export function alertItems({ webhook, mail }: AlertsBinding, message: AlertMessage): NewItem[] {
  const ways = [...(webhook === undefined ? [] : ['webhook' as const]), ...(mail.length === 0 ? [] : ['mail' as const])]
  return ways.map((way) => ({
    queue: alertQueue,
    name: names[way],
    payload: JSON.stringify(message),
    key: way, // what has ended is not told before what began
    priority: 0,
    delayMs: 0,
    attemptsMax,
    // Also where two write it at once.
    unique: `${way}/${message.key}`,
    keep: false,
    context: {},
    ref: {},
  }))
}

/** The line of jobs that tell alerts. What has no address any more is dropped. */
export function alertLine({ webhook, mail: to }: AlertsBinding, mail: Mail): Line {
  const handler = (tell: (message: AlertMessage) => Promise<unknown>) => ({
    kind: 'job' as const,
    timeoutMs: 2 * timeoutMs,
    backoffBaseMs: 2_000,
    backoffMaxMs: 300_000,
    async handle({ payload }: { payload: unknown }) {
      await tell(payload as AlertMessage)
    },
  })
  return {
    queue: alertQueue,
    concurrency: 2,
    ordered: true,
    handlers: new Map([
      [names.webhook, handler(async (message) => webhook !== undefined && postAlert(webhook, message))],
      [names.mail, handler(async (message) => to.length > 0 && mail.send({ to, ...message }))],
    ]),
  }
}

/**
 * Posts a message as JSON that Slack understands. The URL is a secret, so no error names it, and no redirect gets it.
 * @throws OUTGOING_FAILED
 */
export async function postAlert(webhook: string, { key, text }: AlertMessage): Promise<void> {
  let status: number
  try {
    const response = await fetch(webhook, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'idempotency-key': key },
      body: JSON.stringify({ text: escaped(text) }),
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    })
    status = response.status
    await response.body?.cancel()
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as { code?: string }
    throw failed(code ?? (error as Error).name)
  }
  if (status >= 200 && status <= 299) return
  const error = failed(`it answered ${status}`)
  // What is refused for its content would hold up those that come after it.
  throw [400, 413, 422].includes(status) ? noRetry(error) : error
}

function failed(why: string): RungError {
  return new RungError(
    'OUTGOING_FAILED',
    `An alert could not be posted to RUNG_ALERT_WEBHOOK: ${why}. Try the URL with: rung alerts test`,
  )
}

/** Slack takes these for links and mentions. */
function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
