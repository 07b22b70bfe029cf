import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { RunningPart } from '../../src/engines/process/engine.ts'
import { type PartState, supervise } from '../../src/fleet/supervisor.ts'
import { planOf } from '../support/plan.ts'
import { until } from '../support/process.ts'

const { parts } = planOf({ options: { rung: '10k' } })

/** Parts that do as they are told, and what happened to them. */
function stage(fail: (name: string, start: number) => Error | undefined = () => undefined, unresponsiveAfterMs = 0) {
  const told: string[] = []
  const starts = new Map<string, number>()
  const die = new Map<string, (how: string) => void>()
  const changes: PartState[] = []
  const silent = new Set<string>()
  const supervisor = supervise({
    parts,
    unresponsiveAfterMs: () => unresponsiveAfterMs,
    async start({ name }): Promise<RunningPart> {
      const count = (starts.get(name) ?? 0) + 1
      starts.set(name, count)
      const error = fail(name, count)
      if (error) throw error
      told.push(`start ${name}`)
      const { promise: exited, resolve } = Promise.withResolvers<string>()
      die.set(name, resolve)
      return {
        pid: count,
        exited,
        answers: () => (silent.has(name) ? new Promise(() => {}) : Promise.resolve(true)),
        kill() {
          told.push(`kill ${name}`)
          silent.delete(name)
          resolve('was killed')
        },
        async stop() {
          if (die.get(name) === resolve) told.push(`stop ${name}`)
          resolve('was stopped')
        },
      }
    },
    onChange: (state) => void changes.push({ ...state }),
  })
  const stateOf = (name: string) => supervisor.parts.find(({ part }) => part.name === name)!.state
  return { supervisor, told, starts, die, changes, silent, stateOf }
}

describe('the supervisor', () => {
  it('starts what others need first, and stops it last', async () => {
    const { supervisor, told } = stage()
    await supervisor.ready
    assert.deepEqual(
      told.splice(0),
      ['redis', 'postgres', 'web-1', 'worker-1', 'edge'].map((name) => `start ${name}`),
    )
    assert.ok(supervisor.parts.every(({ state: { state, pid } }) => state === 'running' && pid === 1))
    await Promise.all([supervisor.stop(), supervisor.stop()])
    const stops = told.filter((line, index) => told.indexOf(line) === index)
    assert.deepEqual(
      stops,
      ['edge', 'web-1', 'worker-1', 'redis', 'postgres'].map((name) => `stop ${name}`),
    )
    assert.ok(supervisor.parts.every(({ state: { state, pid } }) => state === 'stopped' && pid === undefined))
  })

  it('starts again what ended by itself, and says why it did', async () => {
    const { supervisor, die, stateOf, changes } = stage()
    await supervisor.ready
    die.get('web-1')!('web-1 ended (SIGKILL)')
    await until(() => stateOf('web-1').restarts === 1, 'it is back')
    assert.equal(stateOf('web-1').pid, 2)
    assert.equal(stateOf('edge').restarts, 0)
    assert.ok(
      changes.some(
        ({ name, state, trouble }) => name === 'web-1' && state === 'restarting' && trouble === 'web-1 ended (SIGKILL)',
      ),
    )
    await supervisor.stop()
  })

  it('ends what says nothing, starts it again, and says why', async () => {
    const { supervisor, silent, told, stateOf, changes } = stage(undefined, 600)
    await supervisor.ready
    silent.add('worker-1')
    await until(() => stateOf('worker-1').restarts === 1, 'it is back')
    assert.deepEqual(
      told.filter((line) => line.startsWith('kill')),
      ['kill worker-1'],
    )
    assert.deepEqual(
      changes.filter(({ name, state }) => name === 'worker-1' && state === 'restarting').map(({ trouble }) => trouble),
      ['did not answer for 0.6 s'],
    )
    const { trouble, reason, pid } = stateOf('worker-1')
    assert.deepEqual([trouble, reason, pid], [undefined, 'did not answer for 0.6 s', 2])
    await supervisor.stop()
  })

  it('keeps trying', async () => {
    const { supervisor, die, stateOf, starts } = stage((name, start) =>
      name === 'redis' && start > 1 && start < 5 ? new Error('no memory') : undefined,
    )
    await supervisor.ready
    die.get('redis')!('gone')
    await until(() => stateOf('redis').trouble === 'no memory', 'it is told')
    await until(() => stateOf('redis').state === 'running' && starts.get('redis') === 5, 'it is back')
    assert.equal(stateOf('redis').trouble, undefined)
    await supervisor.stop()
  })

  it('stops while something is being started again', async () => {
    const { supervisor, die, stateOf, told } = stage((name, start) =>
      name === 'edge' && start > 1 ? new Error('no') : undefined,
    )
    await supervisor.ready
    die.get('edge')!('gone')
    await until(() => stateOf('edge').trouble === 'no', 'it failed once')
    await supervisor.stop()
    assert.ok(told.includes('stop postgres'))
  })

  it('tells of a first start that fails, and starts nothing after it', async () => {
    const { supervisor, starts, told } = stage((name) => (name === 'web-1' ? new Error('wrong') : undefined))
    await assert.rejects(supervisor.ready, { message: 'wrong' })
    await supervisor.stop()
    assert.equal(starts.get('edge'), undefined)
    assert.deepEqual([...new Set(told)].slice(-3), ['stop worker-1', 'stop redis', 'stop postgres'])
  })

  it('adds a part in the order of the plan, restarts it, and forgets it', async () => {
    const { supervisor, told, stateOf, die } = stage()
    await supervisor.ready
    const [edge, web, ...others] = parts
    const added = { ...web!, name: 'web-2' }
    await supervisor.replan([edge!, web!, added, ...others])
    await supervisor.add(added)
    const names = () => supervisor.parts.map(({ part }) => part.name)
    assert.deepEqual(names(), ['edge', 'web-1', 'web-2', 'worker-1', 'redis', 'postgres'])
    await supervisor.restart('web-2', 'was told to')
    const { state, pid, restarts, reason } = stateOf('web-2')
    assert.deepEqual([state, pid, restarts, reason], ['running', 2, 1, 'was told to'])
    die.get('web-2')!('gone')
    await until(() => stateOf('web-2').restarts === 2, 'it is restarted like any other')
    await supervisor.remove('web-2')
    assert.deepEqual(names(), ['edge', 'web-1', 'worker-1', 'redis', 'postgres'])
    assert.equal(told.at(-1), 'stop web-2')
    await supervisor.stop()
  })

  it('forgets an added part that does not start, and retries a restarted one', async () => {
    const { supervisor, stateOf, starts } = stage((name, start) =>
      name === 'web-2' || (name === 'web-1' && start === 2) ? new Error('wrong') : undefined,
    )
    await supervisor.ready
    await assert.rejects(supervisor.add({ ...parts[1]!, name: 'web-2' }), { message: 'wrong' })
    assert.equal(supervisor.parts.length, parts.length)
    await assert.rejects(supervisor.restart('web-1', 'was told to'), { message: 'wrong' })
    await until(() => stateOf('web-1').state === 'running' && starts.get('web-1') === 3, 'it is back')
    await supervisor.stop()
    await assert.rejects(supervisor.add(parts[1]!), /is being stopped/)
  })

  it('stops in the middle of a change', async () => {
    const { supervisor, told } = stage()
    await supervisor.ready
    const adding = supervisor.add({ ...parts[1]!, name: 'web-2' }).catch(() => {})
    const restarting = supervisor.restart('worker-1', 'was told to').catch(() => {})
    await supervisor.stop()
    await Promise.all([adding, restarting])
    for (const name of ['web-2', 'worker-1'])
      assert.ok(told.lastIndexOf(`stop ${name}`) > told.lastIndexOf(`start ${name}`))
    assert.ok(supervisor.parts.every(({ state }) => state.state === 'stopped'))
  })
})
