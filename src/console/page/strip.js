import { ago, duration } from './dom.js'

/** What the strip is made of. */
export const stripViews = ['fleet', 'alerts', 'recentErrors', 'queues']

/**
 * The status strip: a line for each thing that one looks at first, the worst ones first. Each leads to the page that shows more.
 * @returns `[{ level: 'good' | 'warn' | 'bad' | 'plain', text, to }]`
 */
export function stripOf(readings) {
  const lines = [
    fleetLine(readings.get('fleet')),
    alertsLine(readings.get('alerts')),
    errorsLine(readings.get('recentErrors')),
    jobsLine(readings.get('queues')),
  ]
  const order = ['bad', 'warn', 'good', 'plain']
  return lines.filter(Boolean).sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level))
}

/** Alerts are evaluated once a minute; as in `rung alerts`. */
const lateMs = 180_000

const line = (level, text, to) => ({ level, text, to })
const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`

function fleetLine(reading) {
  if (!reading) return undefined
  const { view, error } = reading
  if (error) return line('bad', error.message, '/topology')
  if (!view.running) return line('warn', 'Nothing runs', '/topology')
  const away = view.parts.filter(({ state }) => state !== 'running')
  if (away.length > 0)
    return line('bad', `${away.map(({ name, state }) => `${name} is ${state}`).join(', ')}`, '/topology')
  return line('good', `${count(view.parts.length, 'part')} run`, '/topology')
}

function alertsLine(reading) {
  if (!reading || reading.error) return undefined
  const { alerts, evaluatedUntil } = reading.view
  const firing = alerts.filter(({ state }) => state === 'firing')
  if (evaluatedUntil === null) return line('plain', 'Alerts are not evaluated', '/incidents')
  if (firing.length === 0)
    return Date.now() - evaluatedUntil > lateMs
      ? line('plain', `Alerts were evaluated ${ago(evaluatedUntil)}, and not since`, '/incidents')
      : line('good', 'No alert fires', '/incidents')
  const isAct = firing.some(({ severity }) => severity === 'page')
  return line(
    isAct ? 'bad' : 'warn',
    `${count(firing.length, 'alert')}: ${firing.map(({ rule }) => rule).join(', ')}`,
    '/incidents',
  )
}

function errorsLine(reading) {
  if (!reading || reading.error) return undefined
  const fresh = reading.view.length
  return fresh === 0
    ? line('good', 'No error in an hour', '/errors')
    : line('warn', `${count(fresh, 'kind')} of errors in an hour`, '/errors')
}

function jobsLine(reading) {
  if (!reading || reading.error) return undefined
  const sum = (key) => reading.view.reduce((all, queue) => all + (queue[key] ?? 0), 0)
  const oldest = Math.max(0, ...reading.view.map(({ oldestWaitMs }) => oldestWaitMs ?? 0))
  if (sum('dead') > 0) return line('warn', `${count(sum('dead'), 'dead job')}`, '/jobs')
  if (oldest > 60_000) return line('warn', `A job has waited for ${duration(oldest)}`, '/jobs')
  return line('good', sum('waiting') > 0 ? `${count(sum('waiting'), 'job')} wait` : 'No job waits', '/jobs')
}
