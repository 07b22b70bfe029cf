/** The app author's only door. */
export { type CallHandlers, type CallsOf, defineCalls } from './app/calls.ts'
export { type App, type AppDefinition, defineApp, type UsersOptions } from './app/define-app.ts'
export { type Data, defineModule, type Module, type ModuleContext } from './app/define-module.ts'
export { cron, handle, on, type Tx, type Work } from './app/work.ts'
export { type ErrorCode, isRungError, RungError } from './kernel/errors.ts'
export { type Html, html, rawHtml } from './kernel/html.ts'
export { currentScope, type Principal } from './kernel/scope.ts'
export { inThread, type ThreadOptions } from './kernel/threads.ts'
export type { Cache, CachedOptions, CacheOptions } from './primitives/cache/cache.ts'
export type { Stored } from './primitives/cache/entry.ts'
export { defineKey, type Key } from './primitives/cache/keys.ts'
export type { RouteCache } from './primitives/cache/routes.ts'
export { type HotList, type Warm, warm } from './primitives/cache/warming.ts'
export type { Isolation, WriteOptions } from './primitives/data/data.ts'
export { type Sql, type SqlTag, sql } from './primitives/data/sql.ts'
export { type Delivered, defineEvent, type Event } from './primitives/events/events.ts'
export type { FileInfo } from './primitives/files/contract.ts'
export type { Files, Upload } from './primitives/files/files.ts'
export type { CorsOptions, Http, HttpOptions } from './primitives/http/contract.ts'
export { requestScopes } from './primitives/http/http.ts'
export { type Identify, principalOf } from './primitives/http/principal.ts'
export type { Problem, ProblemField } from './primitives/http/problem.ts'
export type { Priority, SheddingOptions } from './primitives/http/shedding.ts'
export type { IdempotencyOptions } from './primitives/idempotency/idempotency.ts'
export {
  defineJob,
  type EnqueueOptions,
  type Job,
  type JobOptions,
  type JobRef,
  type Jobs,
} from './primitives/jobs/jobs.ts'
export type { JobRun } from './primitives/jobs/work.ts'
export { noRetry } from './primitives/jobs/worker.ts'
export type { Limit, LimitOptions, RouteLimit } from './primitives/limits/limits.ts'
export type { Mail, MailContent, MailMessage } from './primitives/mail/mail.ts'
export { type CallOptions, type Outgoing, type OutgoingOptions, outgoing } from './primitives/outgoing/outgoing.ts'
export {
  defineIndex,
  type Index,
  type Search,
  type SearchDocument,
  type SearchQuery,
  type SearchResult,
} from './primitives/search/search.ts'
export type { SessionInfo } from './primitives/sessions/contract.ts'
export type { SessionOptions, Sessions } from './primitives/sessions/sessions.ts'
export { type OpenData, type OpenDataOptions, openData } from './runtime/open-data.ts'
export { type DataOf, type SearchOf, withData } from './runtime/with-data.ts'
export { defineTopology, type TopologyChanges } from './topology/settings.ts'
