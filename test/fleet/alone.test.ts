import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { it } from 'node:test'
import { liveFleet } from '../../src/fleet/live.ts'
import type { Part, Plan } from '../../src/fleet/placement.ts'
import type { Supervisor } from '../../src/fleet/supervisor.ts'
import { planOf } from '../support/plan.ts'

it('the one process of 1k behind an edge is restarted at once: no other takes its place', async () => {
  const ready = createServer((_request, response) => response.end()).listen(0, '127.0.0.1')
  await once(ready, 'listening')
  try {
    const planned = planOf({ options: { rung: '1k' }, env: { RUNG_EDGE: 'on' } })
    const address = `127.0.0.1:${(ready.address() as AddressInfo).port}`
    const parts = planned.parts.map((part): Part => (part.kind === 'app' ? { ...part, address } : part))
    const did: string[] = []
    const balancing = {
      admit: async ({ name }: { name: string }) => void did.push(`admit ${name}`),
      drain: () => assert.fail('the last process cannot be left out'),
      look: async () => ({ requests: 0, isUp: true }),
      forget: async () => {},
    }
    const supervisor = {
      ready: Promise.resolve(),
      over: new AbortController().signal,
      parts: parts.map((part) => ({ part, server: part.name === 'edge' ? { balancing } : undefined })),
      restart: async (name: string) => void did.push(`restart ${name}`),
    } as unknown as Supervisor
    const plan: Plan = { ...planned, parts }
    const live = liveFleet({
      supervisor,
      first: { plan, topology: planned.deployment.topology },
      replan: () => assert.fail('nothing is planned anew'),
      onPlan() {},
      failover: { checkRemoval: async () => {}, setLeaving: async () => {} },
      routingOf: () => ({ groups: [], rules: [] }),
      slowestStopMs: () => 1_000,
      deploy: undefined as never,
      climb: undefined as never,
      isProduction: true,
    })
    assert.deepEqual(await live({ command: 'restart', part: 'app-1' }, () => {}), { restarted: ['app-1'] })
    assert.deepEqual(did, ['restart app-1', 'admit app-1'])
  } finally {
    ready.close()
  }
})
