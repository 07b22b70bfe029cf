/** A proof that can be repeated. */
export interface ProofSeed {
  rung: string
  app: 'conduit' | 'shop'
  seed: number
  minutes: number
  pairs: boolean
  /** Default: all that are possible. */
  faults: string | undefined
}

/** Proofs that have failed once, each with what was wrong then. `npm run bench -- prove` begins with them. */
export const keptSeeds: readonly ProofSeed[] = [
  // Reads failed with 503 where their connections broke and no replica could stand in.
  {
    ...{ rung: '10k', app: 'conduit', seed: 5, minutes: 1.5, pairs: false },
    faults: 'kill,freeze,stop,flush,slow,latency,reset,black-hole,terminate,exhaust,lock',
  },
]
