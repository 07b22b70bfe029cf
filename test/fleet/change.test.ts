import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { changeOf } from '../../src/fleet/change.ts'
import { parseRequest } from '../../src/fleet/control.ts'
import { checkScale, partsNamed } from '../../src/fleet/live.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { databaseConnections } from '../../src/topology/topology.ts'
import { plannedOptions, planOf } from '../support/plan.ts'

const at = (web: number, worker: number, replicas: number, site = {}) =>
  planOf({ options: { rung: '100k', web: `${web}`, worker: `${worker}`, replicas: `${replicas}` }, site })

const namesOf = (parts: readonly { name: string }[]) => parts.map(({ name }) => name)

describe('the change from one plan to another', () => {
  const now = at(2, 1, 1)
  const ports = Array.from({ length: 9 }, (_, index) => 21_001 + index)

  it('adds and removes parts, and leaves the others alone', () => {
    const more = changeOf(now, at(4, 2, 1, { held: now, ports }))
    assert.deepEqual(namesOf(more.added), ['web-3', 'web-4', 'worker-2'])
    assert.deepEqual([more.removed, more.rolled], [[], []])
    const fewer = changeOf(now, at(1, 0, 1, { held: now, ports }))
    assert.deepEqual(namesOf(fewer.removed), ['web-2', 'worker-1'])
    assert.deepEqual([fewer.added, fewer.rolled], [[], []])
  })

  it('restarts the processes that must learn of another server', () => {
    const one = changeOf(now, at(2, 1, 2, { held: now, ports }))
    assert.deepEqual(namesOf(one.added), ['postgres-3'])
    assert.deepEqual(namesOf(one.rolled), ['web-1', 'web-2', 'worker-1'])
    const none = changeOf(now, at(2, 1, 0, { held: now, ports }))
    assert.deepEqual(namesOf(none.removed), ['postgres-2'])
    assert.deepEqual(namesOf(none.rolled), ['web-1', 'web-2', 'worker-1'])
  })

  it('lets every part keep its ports', () => {
    const next = at(4, 1, 1, { held: now, ports })
    for (const part of now.parts) {
      assert.equal(next.parts.find(({ name }) => name === part.name)?.address, part.address, part.name)
    }
    const { servers } = plannedOptions(next.parts, 'balancer') as { servers: { name: string }[] }
    assert.deepEqual(namesOf(servers), ['web-1', 'web-2', 'web-3', 'web-4'])
  })
})

describe('a scale', () => {
  const { topology } = at(2, 1, 1).deployment
  function refused(run: () => void): string {
    try {
      run()
    } catch (error) {
      if (isRungError(error, 'COMMAND_INVALID')) return error.message
      throw error
    }
    return 'it is accepted'
  }

  it('fits the connections that Postgres was started with', () => {
    checkScale(topology, { web: 12, worker: 4, replicas: 1 })
    assert.match(
      refused(() => checkScale(topology, { web: 40, worker: 1, replicas: 1 })),
      /^This may need 193 connections, and Postgres was started with 118\./,
    )
    const running = { ...topology, data: { ...topology.data, connectionsMax: 90 } }
    assert.equal(databaseConnections(running), 90)
  })

  it('needs a balancer for web processes and replicas, and not for workers', () => {
    const { topology } = planOf({ options: { rung: '10k' } }).deployment
    checkScale(topology, { web: 1, worker: 1, replicas: 0 })
    assert.match(
      refused(() => checkScale(topology, { web: 2, worker: 1, replicas: 0 })),
      /^Without a balancer .* --web 2 --replicas 0$/,
    )
  })

  it('leaves the replicas of another Postgres alone', () => {
    const env = { DATABASE_URL: 'postgres://a@db/app', DATABASE_READ_URL: 'postgres://a@db2/app' }
    const { topology } = planOf({ options: { rung: '100k' }, env }).deployment
    assert.match(
      refused(() => checkScale(topology, { web: 3, worker: 1, replicas: 2 })),
      /DATABASE_READ_URL/,
    )
  })
})

describe('the parts of a name', () => {
  it('are one, or all processes of a role', () => {
    const plan = at(2, 1, 2)
    assert.deepEqual(namesOf(partsNamed(plan, 'web')), ['web-1', 'web-2'])
    assert.deepEqual(namesOf(partsNamed(plan, 'web-2')), ['web-2'])
    assert.deepEqual(namesOf(partsNamed(plan, 'postgres')), ['postgres'])
    assert.throws(() => partsNamed(plan, 'we'), { code: 'COMMAND_INVALID' })
  })
})

describe('a request to a fleet', () => {
  it('is checked', () => {
    assert.deepEqual(parseRequest('{"command":"scale","web":4,"more":1}'), { command: 'scale', web: 4 })
    assert.deepEqual(parseRequest('{"command":"kill","part":"web-1"}'), { command: 'kill', part: 'web-1', sure: false })
    const wrong = [
      '',
      '[]',
      'null',
      '{"command":"stop"}',
      '{"command":"scale","web":"4"}',
      '{"command":"scale","web":65}',
    ]
    for (const text of [...wrong, '{"command":"restart","part":"../x"}', '{"command":"kill"}']) {
      assert.throws(() => parseRequest(text), { code: 'COMMAND_INVALID' }, text)
    }
  })
})
