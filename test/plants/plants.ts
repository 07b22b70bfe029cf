import type { Plant } from './plant.ts'

/** All of them. `plants.test.ts` holds their texts to the sources, `npm run bench -- plants` proves that each is caught. */
export const plants: readonly Plant[] = [
  {
    name: 'cache-forgets-the-session',
    file: 'primitives/cache/reader.ts',
    find: '?? (scope && this.#parts.invalidator.ensure(scope))',
    replace: '',
    caughtBy: ['read-your-writes'],
    workload: 'cache',
  },
  {
    name: 'tags-are-looked-at-after-the-load',
    file: 'primitives/cache/loads.ts',
    find: 'memory.keep(key, kept, start.asOf)',
    replace: 'memory.keep(key, kept, memory.tags.now)',
    caughtBy: ['no-stale-set', 'read-your-writes'],
    workload: 'cache',
  },
  // Which server reads, and what a session has seen.
  {
    name: 'any-replica-will-do',
    file: 'primitives/data/freshness.ts',
    find: '&& (atLeast === undefined || place >= atLeast))',
    replace: ')',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'a-replica-is-chosen-by-its-lag-in-time',
    file: 'primitives/data/freshness.ts',
    find: '.filter(({ inRotation, place }) => inRotation && place !== undefined && (atLeast === undefined || place >= atLeast))',
    replace: '.filter(({ inRotation, lagMs }) => inRotation && lagMs < 1_000)',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'received-counts-as-replayed',
    file: 'primitives/data/watched.ts',
    find: 'then pg_last_wal_replay_lsn() else',
    replace: 'then pg_last_wal_receive_lsn() else',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'a-read-does-not-advance-the-position',
    file: 'primitives/data/data.ts',
    find: "if (this.#target === 'read') noteSeen(scope, database, seen)",
    replace: 'void seen',
    caughtBy: ['monotonic-reads'],
    workload: 'replicas',
  },
  {
    name: 'a-write-does-not-advance-the-position',
    file: 'primitives/data/data.ts',
    find: 'noteSeen(scope, this.core.database, place)',
    replace: 'void noteSeen',
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'the-position-is-asked-before-the-commit',
    file: 'primitives/data/data.ts',
    find: `positioned ? [...riding, commit, askPlace] : [...riding, commit])
      settle = inDoubt(scope)
      const [committed, at] = sent.slice(riding.length)`,
    replace: `positioned ? [...riding, askPlace, commit] : [...riding, commit])
      settle = inDoubt(scope)
      const [committed, at] = sent.slice(riding.length).reverse()`,
    caughtBy: ['read-your-writes'],
    workload: 'replicas',
  },
  {
    name: 'a-replica-that-stands-still-is-read',
    file: 'primitives/data/cluster.ts',
    find: 'server.place !== undefined && server.lagMs <= limit',
    replace: 'server.place !== undefined',
    caughtBy: ['bounded-staleness'],
    workload: 'replicas',
  },

  // Requests with a key, and limits.
  {
    name: 'a-key-belongs-to-everyone',
    file: 'primitives/idempotency/idempotency.ts',
    find: 'digestOf(await senderOf(request), route, key)',
    replace: '(void senderOf, digestOf(route, key))',
    caughtBy: ['one-effect'],
    workload: 'requests',
  },
  {
    name: 'the-next-attempt-does-not-find-the-step',
    file: 'primitives/idempotency/steps.ts',
    find: 'toBytes(step))',
    replace: 'toBytes({ ...step, n: 0 }))',
    caughtBy: ['one-effect'],
    workload: 'requests',
  },
  {
    name: 'an-answer-is-not-kept',
    file: 'primitives/idempotency/idempotency.ts',
    find: 'if (status >= 500 ||',
    replace: 'if (status >= 200 ||',
    caughtBy: ['one-effect'],
    workload: 'requests',
  },
  {
    name: 'a-request-in-flight-is-run-again',
    file: 'primitives/idempotency/schema.sql',
    find: `  elsif found_row.lease_until > at then
    answer.state := 'in-flight';
    answer.wait_ms := ceil(extract(epoch from found_row.lease_until - at) * 1000);
  else
    update rung.idempotency as r set token = default, lease_until`,
    replace: `  else
    update rung.idempotency as r set lease_until`,
    caughtBy: ['one-effect'],
    workload: 'requests',
  },
  {
    name: 'each-process-counts-for-itself',
    file: 'runtime/wire.ts',
    find: '{ limiter: withLocalShare(shared, memoryLimiter(), { database, processes }), prune: shared.prune }',
    replace: '{ limiter: memoryLimiter(), prune: shared.prune }',
    caughtBy: ['rate-limit'],
    workload: 'requests',
  },
  {
    name: 'a-window-begins-at-the-full-second',
    file: 'primitives/limits/schema.sql',
    find: 'where l > at_ms - windows[place];',
    replace: 'where floor(l / windows[place]) = floor(at_ms / windows[place]);',
    caughtBy: ['rate-limit'],
    workload: 'requests',
  },
  {
    name: 'a-count-is-read-without-a-lock',
    file: 'primitives/limits/schema.sql',
    find: 'where u.key = keys[place] for update;',
    replace: 'where u.key = keys[place]; perform pg_sleep(0.03);',
    caughtBy: ['rate-limit'],
    workload: 'requests',
  },
  {
    name: 'a-refusal-gives-back-what-others-took',
    file: 'primitives/limits/limits.ts',
    find: 'if (verdicts.some(({ admitted }) => !admitted)) await giveBack(verdicts)',
    replace: 'await giveBack(verdicts)',
    caughtBy: ['rate-limit'],
    workload: 'requests',
  },

  // Transactions.
  {
    name: 'serializable-is-read-committed',
    file: 'primitives/data/data.ts',
    find: "{ text: 'begin isolation level serializable', values: [], name: 'rung_begin_s' }",
    replace: "{ text: 'begin', values: [], name: 'rung_begin_s' }",
    caughtBy: ['conservation'],
    workload: 'ledger',
  },
  {
    name: 'repeatable-read-is-read-committed',
    file: 'primitives/data/data.ts',
    find: "{ text: 'begin isolation level repeatable read', values: [], name: 'rung_begin_rr' }",
    replace: "{ text: 'begin', values: [], name: 'rung_begin_rr' }",
    caughtBy: ['no-lost-update'],
    workload: 'ledger',
  },
  {
    name: 'a-rollback-passes-for-a-commit',
    file: 'primitives/data/data.ts',
    find: "if (done.command !== 'COMMIT') throw swallowed()",
    replace: 'void done',
    caughtBy: ['acknowledged-writes'],
    workload: 'ledger',
  },
  {
    name: 'an-inner-write-commits-by-itself',
    file: 'primitives/data/data.ts',
    find: `      if (outer instanceof WriteSession && !outer.ended) {
        return fn(`,
    replace: `      if (outer instanceof WriteSession && outer.ended) {
        return fn(`,
    caughtBy: ['acknowledged-writes'],
    workload: 'ledger',
  },
  {
    name: 'each-statement-commits-by-itself',
    file: 'primitives/data/data.ts',
    find: "{ text: 'begin', values: [], name: 'rung_begin' }",
    replace: "{ text: 'select', values: [], name: 'rung_begin' }",
    caughtBy: ['acknowledged-writes'],
    workload: 'ledger',
  },
  {
    name: 'a-commit-is-acknowledged-before-it-is-made',
    file: 'primitives/data/data.ts',
    find: 'await this.#commit(rides)',
    replace: 'setTimeout(() => this.#commit(rides).catch(() => {}), 20)',
    caughtBy: ['acknowledged-writes', 'no-lost-update'],
    workload: 'ledger',
  },

  // Jobs, events and crons.
  {
    name: 'a-late-completion-is-accepted',
    file: 'primitives/jobs/table.ts',
    find: 'select rung.expect(count(*) = 1) from rung.end_claims',
    replace: 'select rung.expect(count(*) <= 1) from rung.end_claims',
    caughtBy: ['one-effect', 'fenced-completion'],
    workload: 'queue',
  },
  {
    name: 'a-claim-has-the-token-of-the-one-before',
    file: 'primitives/jobs/schema.sql',
    find: 'set token = token + 1, lease_until',
    replace: 'set lease_until',
    caughtBy: ['fenced-completion'],
    workload: 'queue',
  },
  {
    name: 'a-job-dies-with-its-worker',
    file: 'primitives/jobs/table.ts',
    find: 'dead_at = case when failures + 1 >= attempts_max then now() end',
    replace: 'dead_at = now()',
    caughtBy: ['one-effect', 'queue'],
    workload: 'queue',
  },
  {
    name: 'a-failed-delivery-counts-as-done',
    file: 'primitives/jobs/worker.ts',
    find: 'outcome = outcomeOf(item, handler, scope, error)',
    replace: "outcome = { ...held(item), kind: 'done', progress: void outcomeOf }",
    caughtBy: ['queue'],
    workload: 'queue',
  },
  {
    name: 'the-next-of-a-key-does-not-wait',
    file: 'primitives/jobs/schema.sql',
    find: 'j.key > at_key and j.dead_at is null order by',
    replace: 'j.key > at_key and j.dead_at is null and j.lease_until is null order by',
    caughtBy: ['queue'],
    workload: 'queue',
  },
  {
    name: 'a-delivery-that-waits-is-passed-over',
    file: 'primitives/jobs/schema.sql',
    find: 'j.key > at_key and j.dead_at is null order by',
    replace: 'j.key > at_key and j.dead_at is null and j.run_at <= now() order by',
    caughtBy: ['queue'],
    workload: 'queue',
  },
  {
    name: 'a-delivery-ends-outside-of-its-transaction',
    file: 'primitives/jobs/work.ts',
    find: 'await fenced.complete(() => home.write(async (tx) => void (await fn(item, tx))))',
    replace: 'await home.write(async (tx) => void (await fn(item, tx)))',
    caughtBy: ['queue'],
    workload: 'queue',
  },
  {
    name: 'the-outbox-has-a-transaction-of-its-own',
    file: 'primitives/events/table.ts',
    find: `      return {
        statement,
        committed(rows) {`,
    replace: `      void runAlone(database, statement)
      return {
        statement: sql\`select null where false\`,
        committed(rows) {`,
    caughtBy: ['queue'],
    workload: 'queue',
  },
  {
    name: 'every-process-fires-the-cron',
    file: 'primitives/jobs/cron.ts',
    find: 'and last_at < $',
    replace: 'and last_at <= $',
    caughtBy: ['one-effect'],
    workload: 'queue',
  },

  // A lost primary.
  {
    name: 'the-replica-with-the-least-log-is-promoted',
    file: 'fleet/promotion.ts',
    find: 'lsn > best.lsn',
    replace: 'lsn < best.lsn',
    caughtBy: ['acknowledged-writes'],
    workload: 'failover',
  },
  {
    name: 'a-replica-that-does-not-answer-is-left-out',
    file: 'fleet/promotion.ts',
    find: 'if (lsn === undefined) return undefined',
    replace: 'if (lsn === undefined) continue',
    caughtBy: ['acknowledged-writes'],
    workload: 'failover',
  },
  {
    name: 'a-commit-waits-for-no-replica',
    file: 'engines/postgres/recipe.ts',
    find: "const exactText = { datestyle: 'ISO',",
    replace: "const exactText = { synchronous_commit: 'local', datestyle: 'ISO',",
    caughtBy: ['acknowledged-writes'],
    workload: 'failover',
  },

  // What a session brings along from request to request, and caches over a replica.
  {
    name: 'the-cookie-of-a-read-replaces-that-of-a-write',
    file: 'primitives/positions/positions.ts',
    find: "cookieNames[currentScope()?.wrote ? 'wrote' : 'read']",
    replace: 'cookieNames.wrote',
    caughtBy: ['read-your-writes'],
    workload: 'web',
  },
  {
    name: 'only-the-first-cookie-counts',
    file: 'primitives/positions/positions.ts',
    find: 'known.length > 0 ? known.reduce(furthest) : undefined',
    replace: 'known[0]',
    caughtBy: ['monotonic-reads', 'read-your-writes'],
    workload: 'web',
  },
  {
    name: 'a-principal-has-no-position',
    file: 'primitives/positions/positions.ts',
    find: 'if (known) scope.position = furthest(scope.position, known)',
    replace: 'if (known) void furthest',
    caughtBy: ['read-your-writes'],
    workload: 'web',
  },
  {
    name: 'a-load-may-read-any-replica',
    file: 'primitives/cache/loads.ts',
    find: '    scope.position = position\n',
    replace: '',
    caughtBy: ['no-stale-set', 'read-your-writes'],
    workload: 'web',
  },
  {
    name: 'a-cached-value-does-not-advance-the-position',
    file: 'primitives/cache/reader.ts',
    find: 'if (seen !== nowhere) scope.position = furthest(scope.position, seen)',
    replace: 'void [seen, nowhere, furthest]',
    caughtBy: ['monotonic-reads'],
    workload: 'web',
  },
]
