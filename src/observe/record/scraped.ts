import { messageOf, RungError, sentence } from '../../kernel/errors.ts'
import { formatBytes } from '../../kernel/units.ts'
import { type Frame, type Gauge, type Histogram, keyOf } from './frame.ts'
import { recordedHistograms, recordedOfEach, recordedOnce } from './snapshot.ts'
import type { Slice } from './table.ts'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** Of older days only requests are read: peaks and weeks are made of them. */
const detailedMs = 7 * dayMs
const answersWithinMs = 60_000
/** A week of hours of some ten thousand series. */
const answerBytesMax = 64 * 1024 ** 2
/** A Prometheus refuses more points of one series. */
const pointsMax = 11_000

const histograms: readonly string[] = recordedHistograms
const requests = 'http_request_duration_seconds'

/** One value of a series, for the hour that ends at `to`. */
interface Point {
  labels: Readonly<Record<string, string>>
  /** ms since the epoch */
  to: number
  value: number
}

/**
 * Reads from a Prometheus that scrapes `/metrics` what the record would have: one frame for each process and hour, the oldest first. Whole hours that are over are read, of
 * the last seven days all metrics, before them requests alone. What `increase()` extrapolates is a little off where a process began or ended.
 * @param url `http://prometheus:9090`
 * @throws DATA_UNAVAILABLE
 */
export async function readPrometheus(url: string, window: { from: number; to: number }): Promise<Slice[]> {
  const to = Math.floor(window.to / hourMs) * hourMs
  const from = Math.max(Math.ceil(window.from / hourMs) * hourMs, to - (pointsMax - 1) * hourMs)
  const detailed = Math.max(from, to - detailedMs)
  const frames = new Map<string, Building>()
  const ask = (query: string, since = detailed) => pointsOf(url, query, { from: since, to })
  function put<Kind extends keyof Values>(kind: Kind, name: string, point: Point, value: Values[Kind]): void {
    const { instance: node = '', job: _, ...labels } = point.labels
    const id = `${point.to} ${node}`
    const known = frames.get(id)
    const frame = known ?? {
      ...{ node, from: point.to - hourMs, to: point.to, ms: hourMs },
      ...{ counters: {}, gauges: {}, histograms: {} },
    }
    if (!known) frames.set(id, frame)
    const series = frame[kind] as Record<string, Record<string, Values[Kind]>>
    series[name] ??= {}
    series[name][keyOf(labels)] = value
  }

  for (const point of await ask(`sum by (instance) (increase(${requests}_count[1h]))`, from)) {
    // A count without its buckets: of these days only the number matters.
    if (point.to <= detailed && point.value > 0)
      put('histograms', requests, point, { sum: 0, counts: { '0..+Inf': point.value } })
  }
  for (const name of [...recordedOfEach, ...recordedOnce]) {
    if (histograms.includes(name)) {
      const sums = new Map((await ask(`increase(${name}_sum[1h])`)).map((point) => [idOf(point), point.value]))
      for (const { point, counts } of bucketsIn(await ask(`increase(${name}_bucket[1h])`)))
        put('histograms', name, point, { sum: sums.get(idOf(point)) ?? 0, counts })
    } else if (name.endsWith('_total')) {
      for (const point of await ask(`increase(${name}[1h])`))
        if (point.value > 0) put('counters', name, point, point.value)
    } else {
      for (const { point, gauge } of await gaugesOf(name, ask)) put('gauges', name, point, gauge)
    }
  }
  const hours = Map.groupBy(frames.values(), (frame) => frame.from)
  return [...hours].map(([from, frames]) => ({ from, to: from + hourMs, frames })).sort((a, b) => a.from - b.from)
}

interface Values {
  counters: number
  gauges: Gauge
  histograms: Histogram
}
type Building = Omit<Frame, keyof Values> & { [Kind in keyof Values]: Record<string, Record<string, Values[Kind]>> }

const idOf = ({ labels, to }: Point) => `${to} ${keyOf(labels)}`

async function gaugesOf(
  name: string,
  ask: (query: string) => Promise<Point[]>,
): Promise<{ point: Point; gauge: Gauge }[]> {
  const [mean, least, most] = [
    await ask(`avg_over_time(${name}[1h])`),
    await ask(`min_over_time(${name}[1h])`),
    await ask(`max_over_time(${name}[1h])`),
  ]
  const byId = (points: readonly Point[]) => new Map(points.map((point) => [idOf(point), point.value]))
  const [min, max] = [byId(least), byId(most)]
  return mean.map((point) => {
    const { value } = point
    const gauge = { min: min.get(idOf(point)) ?? value, max: max.get(idOf(point)) ?? value, sum: value, count: 1 }
    return { point, gauge }
  })
}

/** Buckets are cumulative there; the record keeps how many are in each. */
function bucketsIn(points: readonly Point[]): { point: Point; counts: Record<string, number> }[] {
  const series = Map.groupBy(points, ({ labels: { le: _, ...labels }, to }) => `${to} ${keyOf(labels)}`)
  return [...series.values()].flatMap((buckets) => {
    const { le: _, ...labels } = buckets[0]!.labels
    const counts: Record<string, number> = {}
    let [lower, below] = ['0', 0]
    for (const { labels, value } of buckets.sort((a, b) => boundOf(a) - boundOf(b))) {
      if (value > below) counts[`${lower}..${labels.le}`] = value - below
      ;[lower, below] = [labels.le!, Math.max(below, value)]
    }
    return Object.keys(counts).length > 0 ? [{ point: { ...buckets[0]!, labels }, counts }] : []
  })
}

const boundOf = ({ labels: { le } }: Point) => (le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le))

interface Answer {
  status: string
  error?: string
  data?: { result: { metric: Record<string, string>; values: [number, string][] }[] }
}

/** Returns the text of an answer, or nothing if it is too long to be kept. */
async function textOf({ body }: Response): Promise<string | undefined> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body ?? []) {
    bytes += chunk.byteLength
    if (bytes > answerBytesMax) return undefined // which cancels the rest
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** @throws DATA_UNAVAILABLE */
async function pointsOf(url: string, query: string, { from, to }: { from: number; to: number }): Promise<Point[]> {
  const unavailable = (why: string, cause?: unknown) =>
    new RungError('DATA_UNAVAILABLE', `The Prometheus at RUNG_PROMETHEUS_URL cannot be read: ${sentence(why)}`, {
      ...(cause !== undefined && { cause }),
    })
  const search = new URLSearchParams({
    ...{ query, start: String((from + hourMs) / 1000), end: String(to / 1000), step: '3600' },
  })
  const answer = await fetch(`${url.replace(/\/$/, '')}/api/v1/query_range?${search}`, {
    redirect: 'manual', // it could lead to any address of the network
    signal: AbortSignal.timeout(answersWithinMs),
  })
    .then(
      async (response) => {
        if (response.status >= 300 && response.status < 400) {
          await response.body?.cancel()
          throw unavailable(
            `it redirects to another address (${response.status}). Name that one, if it is the Prometheus`,
          )
        }
        const text = await textOf(response)
        if (text === undefined) {
          throw unavailable(`an answer has more than ${formatBytes(answerBytesMax)}. Drop labels of many values`)
        }
        try {
          return JSON.parse(text) as Answer
        } catch (cause) {
          throw unavailable('it does not answer with JSON', cause)
        }
      },
      (cause) => {
        throw unavailable(cause.cause?.code ?? messageOf(cause), cause)
      },
    )
    .catch((cause) => {
      throw cause instanceof RungError ? cause : unavailable(messageOf(cause), cause)
    })
  if (answer.status !== 'success' || !answer.data)
    throw unavailable(
      String(answer.error ?? 'it did not say why')
        .replaceAll(/[^\x20-\x7e]/g, '?')
        .slice(0, 500),
    )
  return answer.data.result.flatMap(({ metric: { __name__: _, ...labels }, values }) =>
    values
      .map(([seconds, value]) => ({ labels, to: seconds * 1000, value: Number(value) }))
      .filter(({ value, to: at }) => Number.isFinite(value) && at > from && at <= to),
  )
}
