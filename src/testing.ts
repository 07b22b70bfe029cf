/** The door for tests of an app: `import { testApp } from 'rung/testing'`. */
export type { Answer, RequestOptions, TestClient } from './testing/client.ts'
export type { TestClock } from './testing/clock.ts'
export { type Factory, type Fake, factory } from './testing/factory.ts'
export type { DrainOptions, PendingJob, TestJobs, TestRun } from './testing/jobs.ts'
export { type TestApp, type TestMail, type TestOptions, testApp } from './testing/test-app.ts'
