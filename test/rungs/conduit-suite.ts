import { describe } from 'node:test'
import { articleTests } from './conduit-articles.ts'
import { conduitClient, type Target } from './conduit-client.ts'
import { commentTests } from './conduit-comments.ts'
import { favoriteTests, tagTests } from './conduit-favorites.ts'
import { freshTests } from './conduit-fresh.ts'
import { inputTests } from './conduit-input.ts'
import { feedTests, listTests, pagingTests, totalTests } from './conduit-lists.ts'
import { pageTests } from './conduit-pages.ts'
import { privacyTests } from './conduit-private.ts'
import { profileTests } from './conduit-profiles.ts'
import { repeatedTests } from './conduit-repeated.ts'
import { searchTests } from './conduit-search.ts'
import { tokenTests } from './conduit-tokens.ts'
import { currentUserTests, registrationTests } from './conduit-users.ts'
import { webTests } from './conduit-web.ts'

const atATime = 8

/**
 * The reference app from outside, over HTTP alone: the same at every rung, on an empty or a full database, beside other
 * runs of itself. `baseUrl` is an origin; the API answers below `/api`.
 */
export function conduitSuite(target: Target): void {
  const api = conduitClient(target)
  describe('conduit', () => {
    describe('api', { concurrency: atATime }, () => {
      for (const part of [...apiParts, repeatedTests, inputTests, webTests]) part(api)
    })
    totalTests(api)
    pageTests(target)
    privacyTests(target)
  })
}

/** The part of the suite that a patient client can run while processes are killed: it sends through `conduitClient` alone. */
export function conduitApiSuite(target: Target): void {
  const api = conduitClient(target)
  describe('conduit api', { concurrency: atATime }, () => {
    for (const part of apiParts) part(api)
  })
}

const apiParts = [
  registrationTests,
  currentUserTests,
  tokenTests,
  profileTests,
  articleTests,
  listTests,
  pagingTests,
  feedTests,
  favoriteTests,
  tagTests,
  commentTests,
  freshTests,
  searchTests,
]
