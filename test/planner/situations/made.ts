import type { Kind } from '../../../src/planner/finding.ts'
import type { World } from './world.ts'

/** A situation that was made on purpose, and the answer that follows from how it was made. */
export interface Situation {
  name: string
  /** Why this answer follows. */
  because: string
  world: World
  /** What must be advised now, the first of it first; nothing means "not yet". */
  now: readonly Kind[]
  /** What must be among "not yet", with words of its reason. */
  notYet?: readonly [Kind, RegExp][]
}

/** A list and a page, as most apps have them: 1 ms in the app, half of it again in Postgres. */
const routes = [
  { route: 'GET /articles', module: 'articles', share: 0.5, appMs: 1, readMs: 0.5, writeMs: 0, cached: 0.5 },
  { route: 'GET /articles/:slug', module: 'articles', share: 0.4, appMs: 1, readMs: 0.5, writeMs: 0, cached: 0.5 },
  { route: 'POST /articles', module: 'articles', share: 0.1, appMs: 2, readMs: 0, writeMs: 1 },
] as const
/** Grows by this share a week, from this peak on. */
const growing = (peak: number, aWeek: number) => (day: number) => peak * (1 + aWeek) ** (day / 7)
const flat = (peak: number) => () => peak
/** The lines of these lists are all of 1.1 ms in the app: its one thread carries at most about 900 requests/s, about 880 at a p95 of 200 ms. */
const base = { rung: '1k', cores: 4, days: 42, routes } as const
const prices = {
  larger: { size: { cores: 8, memoryGb: 32 }, more: { low: 70, high: 70 } },
  replica: { low: 50, high: 150 },
  database: { low: 100, high: 120 },
  worker: { low: 100, high: 200 },
  rung: { rung: '100k', more: { low: 750, high: 1_340 } },
} as const

export const situations: readonly Situation[] = [
  {
    name: 'headroom of 70 %, and steady',
    because: 'A third of what the one thread carries is in use, and nothing grows.',
    world: { ...base, peak: flat(250) },
    now: [],
    notYet: [['rung', /7\d % of the capacity is free/]],
  },
  {
    name: 'the ceiling is years away',
    because: 'At 0.5 % a week, from 45 % of the ceiling, 80 % more takes 118 weeks.',
    world: { ...base, days: 140, peak: growing(430, 0.005) },
    now: [],
    notYet: [['rung', /it may be between 20(29|3\d)-/]],
  },
  {
    name: 'weeks that jump up and down',
    because: 'Every other week has four times the requests of the one before: no growth can be planned for.',
    world: { ...base, days: 56, peak: (day) => (Math.floor(day / 7) % 2 === 0 ? 120 : 480) },
    now: [],
    notYet: [['rung', /too unsteady to plan for/]],
  },
  {
    name: 'users who do not stay',
    because: 'Each week has 0.8 times the signed-in users of the one before.',
    world: {
      ...base,
      peak: flat(400),
      users: (day) => Array.from({ length: Math.round(600 * 0.8 ** Math.floor(day / 7)) }, (_, index) => `u${index}`),
    },
    now: [],
    notYet: [['rung', /users do not stay/]],
  },
  {
    name: 'a launch day that is over',
    because: 'One day, five days ago, had six times the usual peak; the days since are as before.',
    world: { ...base, peak: (day) => (day === 37 ? 840 : 140) },
    now: [],
    notYet: [['rung', /had 6[.\d]* times the peak of a usual day, and it is over/]],
  },
  {
    name: 'a record of half a day',
    because: 'Nobody knows what a whole day looks like.',
    world: { ...base, days: 0.5, peak: flat(700) },
    now: [],
    notYet: [['rung', /Too little is recorded/]],
  },
  {
    name: 'many users, little load',
    because: '60,000 users a month, for whom playbooks have a cache and replicas, send 12 requests a second.',
    world: {
      ...base,
      peak: flat(12),
      days: 35,
      users: (day) => Array.from({ length: 2_000 }, (_, index) => `u${day * 2_000 + index}`),
    },
    now: [],
    notYet: [['rung', /9\d % of the capacity is free/]],
  },
  {
    name: 'a hot route without a cache, and time to spare',
    because:
      'It takes two thirds of the time of all requests, and 80 % of the capacity is free: a cache would be one more thing that can be wrong.',
    world: {
      ...base,
      peak: flat(80),
      routes: [
        { route: 'GET /start', module: 'pages', share: 0.5, appMs: 2, readMs: 3, writeMs: 0 },
        {
          route: 'GET /articles/:slug',
          module: 'articles',
          share: 0.5,
          appMs: 1,
          readMs: 0.5,
          writeMs: 0,
          cached: 0.5,
        },
      ],
    },
    now: [],
    notYet: [
      ['rung', /of the capacity is free/],
      ['route', /No cache|A cache is one more thing/],
    ],
  },
  {
    name: 'a hot route without a cache, and no time to spare',
    because:
      'The thread is full in the evening, and 90 % of its work is one page that is the same for all: kept for ten seconds it is nearly gone.',
    world: {
      ...base,
      peak: flat(230),
      routes: [
        { route: 'GET /start', module: 'pages', share: 0.9, appMs: 3.8, readMs: 1, writeMs: 0 },
        {
          route: 'GET /articles/:slug',
          module: 'articles',
          share: 0.1,
          appMs: 1,
          readMs: 0.5,
          writeMs: 0,
          cached: 0.5,
        },
      ],
      prices,
    },
    now: ['route'],
    notYet: [['rung', /for no money/]],
  },
  {
    name: 'the one thread is full',
    because: 'Work is spread over many routes, the cache works, and the thread has 5 % left: only more processes help.',
    world: { ...base, peak: flat(820), prices },
    now: ['rung'],
  },
  {
    name: 'growth that a step must begin for now',
    because: 'At 10 % a week the ceiling of the thread is reached within 7 weeks, and a step takes up to 60 days.',
    world: { ...base, days: 70, peak: growing(180, 0.1), prices },
    now: ['rung'],
  },
  {
    name: 'the machine is full, and no part of it',
    because:
      'Two cores for web, worker and Postgres: together they use 1.8, and none of them more than 0.7 of its own core.',
    world: {
      ...{ rung: '10k', cores: 2, days: 42, prices },
      peak: flat(300),
      routes: [{ route: 'POST /a', module: 'a', share: 1, appMs: 2.2, readMs: 1, writeMs: 0.8 }],
      jobs: { perSecond: 300, cpuMs: 1.6, waitMs: 1, concurrency: 10 },
    },
    now: ['machine'],
  },
  {
    name: 'a database that fills the machine',
    because: 'Of the 3.7 cores in use Postgres has 3: a machine of its own costs less than one that is larger for all.',
    world: {
      ...base,
      peak: flat(200),
      routes: [{ route: 'POST /a', module: 'a', share: 1, appMs: 2.5, readMs: 9, writeMs: 6 }],
      prices: { ...prices, larger: { size: { cores: 8, memoryGb: 32 }, more: { low: 200, high: 200 } } },
    },
    now: ['database'],
  },
  {
    name: 'the same database, where a larger machine costs less',
    because: 'Of the 3.7 cores in use Postgres has 3, but twice the machine is 70 dollars more, and another one 100.',
    world: {
      ...base,
      peak: flat(200),
      routes: [{ route: 'POST /a', module: 'a', share: 1, appMs: 2.5, readMs: 9, writeMs: 6 }],
      prices,
    },
    now: ['machine'],
  },
  {
    name: 'a replica that would not help',
    because: 'The primary is full, and 90 % of what it does is writes, which every copy repeats.',
    world: {
      ...{ rung: '100k', cores: 4, spread: true, days: 42, prices },
      peak: flat(900),
      routes: [{ route: 'POST /a', module: 'a', share: 1, appMs: 1, readMs: 0.4, writeMs: 3.9 }],
    },
    now: ['machine'],
    notYet: [['replica', /repeats all writes/]],
  },
  {
    name: 'replicas that are full of reads',
    because: 'Two replicas share 7.2 cores of reads on 8; the primary has next to nothing to do.',
    world: {
      ...{ rung: '100k', cores: 4, spread: true, days: 42, prices },
      peak: flat(1_800),
      routes: [{ route: 'POST /search', module: 'a', share: 1, appMs: 0.6, readMs: 4, writeMs: 0.02 }],
      topology: { processes: { both: 0, web: 6, worker: 1 } },
    },
    now: ['replica'],
  },
  {
    name: 'web processes that are full behind a balancer',
    because:
      'Three processes with one core each answer 2,650 requests/s of 1.1 ms; databases and machines are mostly idle.',
    world: { ...{ rung: '100k', cores: 8, spread: true, days: 42, prices }, peak: flat(2_600), routes },
    now: ['processes'],
  },
  {
    name: 'a slow service that no rung helps',
    because: 'A request takes 800 ms, of which 797 are spent waiting for a bank; CPUs are idle.',
    world: {
      ...base,
      peak: flat(60),
      routes: [
        {
          route: 'POST /pay',
          module: 'pay',
          share: 1,
          appMs: 2,
          readMs: 0,
          writeMs: 1,
          service: { name: 'bank', ms: 797 },
        },
      ],
    },
    now: ['service'],
    notYet: [['rung', /of the capacity is free/]],
  },
  {
    name: 'a leak of memory',
    because: 'The process keeps 6 MB an hour, with the same requests each day: a larger machine would only end later.',
    world: { ...base, peak: flat(200), leak: 6e6 },
    now: ['memory'],
    notYet: [['rung', /of the capacity is free/]],
  },
  {
    name: 'workers that cannot keep up',
    because: 'Jobs of 50 ms come 21 times a second; a thread does 20.',
    world: {
      ...{ rung: '10k', cores: 4, days: 30, prices },
      peak: flat(100),
      routes,
      jobs: { perSecond: 21, cpuMs: 50, waitMs: 5, concurrency: 10 },
    },
    now: ['processes'],
    notYet: [['rung', /of the capacity is free|Stay/]],
  },
  {
    name: 'workers that wait for a service',
    because:
      'Each job waits two seconds for a service with 3 at a time, and 2 come each second: more workers would send it more calls, and use no CPU.',
    world: {
      ...{ rung: '10k', cores: 4, days: 30 },
      peak: flat(100),
      routes,
      jobs: { perSecond: 2, cpuMs: 3, waitMs: 2_000, service: 'printer', concurrency: 3 },
    },
    now: [],
    notYet: [
      ['queue', /more of them send it more calls/],
      ['rung', /of the capacity is free/],
    ],
  },
]
