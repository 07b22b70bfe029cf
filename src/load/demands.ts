/**
 * The service demand of each part: the CPU time that one journey costs it. By the utilisation law a part is busy for `rate · demand` of its cores,
 * so demands tell what a rate will need, and which part will be used up first.
 * Source: Lazowska et al., Quantitative System Performance, chapter 3.
 */
export interface Demands {
  /** ISO time. */
  at: string
  rung: string
  build?: string
  /** Cores of the machine. */
  cores: number
  scenario: string
  /** CPU ms of each part for one journey, by journey and part. */
  journeys: Readonly<Record<string, Readonly<Record<string, number>>>>
}

interface Used {
  seconds: number
  parts: readonly { name: string; cores: number }[]
}

/**
 * Returns the CPU ms that each part used for one journey. What the parts use without load is taken off. Processes of one kind (web-1, web-2)
 * are one part. Pure.
 */
export function demandOf(used: Used, idle: Used, journeys: number): Record<string, number> {
  const sums = new Map<string, number>()
  for (const { name, cores } of used.parts) {
    const atRest = idle.parts.find((one) => one.name === name)?.cores ?? 0
    const kind = name.replace(/-\d+$/, '')
    sums.set(kind, (sums.get(kind) ?? 0) + Math.max(0, cores - atRest) * used.seconds * 1_000)
  }
  return Object.fromEntries(
    [...sums].map(([name, ms]) => [name, Math.round((1_000 * ms) / Math.max(1, journeys)) / 1_000]),
  )
}
