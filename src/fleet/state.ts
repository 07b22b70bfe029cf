import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { ownerOf } from '../engines/process/pid-file.ts'
import type { NodeGroup } from '../topology/setting-types.ts'
import type { Topology } from '../topology/topology.ts'
import type { ScalingStatus } from './autoscaler.ts'
import type { CertificateFacts } from './certificate.ts'
import { fleetDir } from './placement.ts'
import type { PartState } from './supervisor.ts'

/** The state file of a fleet, read by other commands; without passwords. */
export interface FleetState {
  rung: string
  app: string
  /** `NODE_ENV`: faults on purpose are refused in `production`. */
  mode: string
  url: string
  startedAt: number
  /** Within this time everything ends after a signal, in ms. */
  stopTimeoutMs: number
  /** The CPU cores of each process of the app, and why they are not limited to them. */
  cpuQuota?: { cores: number; problem?: string }
  /** The certificate of the entry, and why its files cannot be used any more. */
  certificate?: CertificateFacts & { problem?: string | undefined }
  /** Roles whose number of processes the autoscaler finds. */
  scaling?: Readonly<Partial<Record<string, ScalingStatus>>>
  /** Groups of modules with processes of their own. */
  nodes: Readonly<Record<string, NodeGroup>>
  parts: (PartState & { address: string; log: string; zone?: string | undefined; build?: string | undefined })[]
}

/** A fleet that runs now. */
export interface RunningFleet extends FleetState {
  /** The process of its supervisor. */
  pid: number
}

/** Returns what a fleet runs: with its CPU quota, unless the settings that were read here have one. Pure. */
export function withQuotaOf(topology: Topology, fleet: Pick<FleetState, 'cpuQuota'> | undefined): Topology {
  const quota = fleet?.cpuQuota
  if (!quota || quota.problem !== undefined || topology.placement.cpu !== undefined) return topology
  return { ...topology, placement: { ...topology.placement, cpu: quota.cores } }
}

/** Says that the processes of the app may use more CPU time than they were given. */
export const noQuota = (problem: string): string => `No CPU quota is in force. ${problem}`

const fileOf = (dataDir: string) => `${fleetDir(dataDir)}/state.json`

/** Writes the state file after changes; those during a write are written together after it. */
export function stateWriter(dataDir: string, look: () => FleetState) {
  const file = fileOf(dataDir)
  let writing: Promise<void> | undefined
  let again = false
  async function write(): Promise<void> {
    do {
      again = false
      await writeFile(`${file}.new`, JSON.stringify(look()), { mode: 0o600 })
      await rename(`${file}.new`, file)
    } while (again)
  }
  return {
    changed(): void {
      again = true
      writing ??= write()
        .catch(() => {}) // a full disk must not end the fleet
        .finally(() => {
          writing = undefined
        })
    },
    async remove(): Promise<void> {
      await writing
      await rm(file, { force: true })
    },
  }
}

/** Returns the fleet whose supervisor runs now. The file of a killed supervisor is ignored. */
export async function runningFleet(dataDir: string): Promise<RunningFleet | undefined> {
  const pid = await ownerOf(fleetDir(dataDir))
  if (pid === undefined) return undefined
  const text = await readFile(fileOf(dataDir), 'utf8').catch(() => undefined)
  const nothingYet: FleetState = {
    rung: '',
    app: '',
    mode: '',
    url: '',
    startedAt: 0,
    stopTimeoutMs: 0,
    nodes: {},
    parts: [],
  }
  try {
    return { ...(text === undefined ? nothingYet : (JSON.parse(text) as FleetState)), pid }
  } catch {
    return { ...nothingYet, pid }
  }
}
