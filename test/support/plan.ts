import assert from 'node:assert/strict'
import type { Engine } from '../../src/engines/process/engine.ts'
import { deploymentOf } from '../../src/fleet/deployment.ts'
import { engines } from '../../src/fleet/engines.ts'
import { type CommandPart, type Part, placeDeployment, portsNeeded, type Site } from '../../src/fleet/placement.ts'
import { readSettings, type Sources } from '../../src/topology/read-settings.ts'

export interface PlanOptions extends Partial<Sources> {
  site?: Partial<Site>
  engines?: readonly Engine[]
}

/** The plan of an app in /srv, on the ports from 20001 on. The environment is that of `rung up`. */
export function planOf({ env = {}, file, options = { rung: '10k' }, site, engines: list = engines }: PlanOptions = {}) {
  const settings = readSettings({ file, env, options })
  const deployment = deploymentOf(settings, list)
  const plan = placeDeployment(deployment, settings, {
    dataDir: '/srv/data',
    tmpDir: '/tmp',
    app: { program: '/bin/node', args: ['bin.js'], file: '/srv/app.ts', cwd: '/srv', env },
    entry: deployment.topology.http,
    ports: Array.from({ length: 12 }, (_, index) => 20_001 + index),
    rootSecret: 'a root of all keys, long enough to be one',
    secretOf: (part) => `${part}-secret`,
    ...site,
  })
  return { ...plan, needed: portsNeeded(deployment), deployment }
}

/** What an engine is started with. */
export function plannedOptions(parts: readonly Part[], name: string): Record<string, unknown> {
  const part = parts.find((one) => one.name === name)
  assert.ok(part?.kind === 'engine', name)
  return part.options as Record<string, unknown>
}

/** Processes of the app. */
export function appsOf(parts: readonly Part[]): CommandPart[] {
  return parts.filter((part): part is CommandPart => part.kind === 'app')
}
