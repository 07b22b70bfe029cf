import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Metric } from './record/snapshot.ts'

/** A series of a histogram: one combination of labels. */
export interface Series {
  observe(seconds: number): void
}

/** The figures of one running app, in Prometheus' form. Two apps in one process do not mix. */
export class Figures {
  readonly #registry = new Registry()
  readonly #registers = [this.#registry]
  readonly contentType = this.#registry.contentType

  constructor() {
    collectDefaultMetrics({ register: this.#registry })
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }

  /** Reads some figures, one after the other: where reading one sets another, name it first. */
  async read(names: readonly string[]): Promise<Metric[]> {
    const found: Metric[] = []
    for (const name of names) {
      const metric = this.#registry.getSingleMetric(name)
      if (metric) found.push(await metric.get())
    }
    return found
  }

  counter(name: string, help: string, labelNames: readonly string[] = []): Counter {
    return new Counter({ name, help, labelNames: [...labelNames], registers: this.#registers })
  }

  /** A counter that is read from elsewhere whenever the figures are asked for. */
  countedElsewhere(
    name: string,
    help: string,
    labelNames: readonly string[],
    collect: (counter: Counter) => void,
  ): void {
    new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers: this.#registers,
      collect() {
        this.reset()
        collect(this)
      },
    })
  }

  /** A gauge; `collect` sets it whenever the figures are asked for. */
  gauge(
    name: string,
    help: string,
    labelNames: readonly string[] = [],
    collect: (gauge: Gauge) => void | Promise<void> = () => {},
  ): Gauge {
    return new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: this.#registers,
      collect() {
        return collect(this)
      },
    })
  }

  /** @param buckets upper bounds, in seconds */
  histogram(name: string, help: string, labelNames: readonly string[], buckets: readonly number[]): Histogram {
    return new Histogram({ name, help, labelNames: [...labelNames], buckets: [...buckets], registers: this.#registers })
  }
}

/** Finds series by a key: looking labels up costs more than counting. */
export function seriesOf(histogram: Histogram): (key: string, labels: () => Record<string, string>) => Series {
  const known = new Map<string, Series>()
  return (key, labels) => {
    let series = known.get(key)
    if (!series) {
      series = histogram.labels(labels())
      known.set(key, series)
    }
    return series
  }
}
