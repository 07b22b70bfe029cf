import assert from 'node:assert/strict'
import { it } from 'node:test'
import { summariseProfile } from '../../../src/observe/profile/summary.ts'
import type { CpuProfile } from '../../../src/observe/profile/take.ts'

const frame = (functionName: string, url = '', lineNumber = 0) => ({
  ...{ functionName, url, lineNumber, columnNumber: 0, scriptId: '0' },
})

it('a profile is told by places and functions, and a recursion counts once', () => {
  const app = 'file:///home/app/orders/module.ts'
  const nodes = [
    { id: 1, callFrame: frame('(root)'), children: [2, 3, 7, 8] },
    { id: 2, callFrame: frame('(idle)') },
    { id: 3, callFrame: frame('list', app, 9), children: [4] },
    { id: 4, callFrame: frame('walk', app, 19), children: [5, 6] },
    { id: 5, callFrame: frame('walk', app, 19) },
    { id: 6, callFrame: frame('', 'file:///home/app/node_modules/@a/b/index.js', 4) },
    { id: 7, callFrame: frame('(garbage collector)') },
    { id: 8, callFrame: frame('route', 'file:///home/app/node_modules/rung/dist/http.js', 1) },
  ]
  // Each sample runs until the next one: 10 ms each, and the last has no end.
  const samples = [2, 2, 3, 4, 5, 5, 6, 7, 8, 2, 2]
  const profile: CpuProfile = {
    ...{ nodes, samples, startTime: 0, endTime: 110_000 },
    timeDeltas: [500, ...Array(10).fill(10_000)],
  }
  const where = {
    ...{ rungDir: '/home/app/node_modules/rung/dist', cwd: '/home/app' },
    ...{ releasesDir: '/data/releases', appDir: '/home/app' },
  }
  const summary = summariseProfile(profile, where)
  assert.deepEqual(
    { ...summary, functions: summary.functions.slice(0, 3) },
    {
      ms: 100,
      busy: 0.7,
      places: [
        { place: 'orders/', share: 0.4 },
        { place: '@a/b', share: 0.1 },
        { place: 'collecting garbage', share: 0.1 },
        { place: 'Rung', share: 0.1 },
      ],
      functions: [
        { name: 'walk', at: 'orders/module.ts:20', own: 0.3, total: 0.4 },
        { name: 'list', at: 'orders/module.ts:10', own: 0.1, total: 0.5 },
        { name: 'anonymous', at: 'node_modules/@a/b/index.js:5', own: 0.1, total: 0.1 },
      ],
    },
  )
  // "rung up" runs a copy, of which the places are told as those of the app.
  const copied: CpuProfile = {
    ...profile,
    nodes: nodes.map((node) =>
      node.callFrame.url === app
        ? {
            ...node,
            callFrame: { ...node.callFrame, url: 'file:///data/releases/7f6e0eb7bb85/above/app/orders/module.ts' },
          }
        : node,
    ),
  }
  const told = summariseProfile(copied, where)
  assert.deepEqual([told.places, told.functions[0]!.at], [summary.places, 'orders/module.ts:20'])
  const empty = summariseProfile({ nodes: [], startTime: 0, endTime: 0 }, where)
  assert.deepEqual(empty, { ms: 0, busy: 0, places: [], functions: [] })
})
