import assert from 'node:assert/strict'
import type { Article, Comment, Profile, User } from './conduit-client.ts'

const isoDateTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/

function expectKeys(value: object, keys: string[]): void {
  assert.deepEqual(Object.keys(value).sort(), [...keys].sort())
}

function expectTextOrNull(value: unknown): void {
  assert.ok(value === null || (typeof value === 'string' && value !== ''), `neither text nor null: ${value}`)
}

function expectDates({ createdAt, updatedAt }: { createdAt: string; updatedAt: string }): void {
  for (const date of [createdAt, updatedAt]) {
    assert.match(date, isoDateTime)
    assert.ok(Number.isFinite(Date.parse(date)), date)
  }
  assert.ok(Date.parse(updatedAt) >= Date.parse(createdAt), `${updatedAt} is before ${createdAt}`)
}

/** A user as the answers show it: all of its keys and no others, so that nothing leaks and nothing is missing. */
export function expectUser(user: User): void {
  expectKeys(user, ['email', 'token', 'username', 'bio', 'image'])
  assert.equal(typeof user.email, 'string')
  assert.equal(typeof user.username, 'string')
  assert.match(user.token, /^[\w-]+\.[\w-]+\.[\w-]+$/)
  expectTextOrNull(user.bio)
  expectTextOrNull(user.image)
}

export function expectProfile(profile: Profile): void {
  expectKeys(profile, ['username', 'bio', 'image', 'following'])
  assert.equal(typeof profile.username, 'string')
  assert.equal(typeof profile.following, 'boolean')
  expectTextOrNull(profile.bio)
  expectTextOrNull(profile.image)
}

const itemKeys = ['slug', 'title', 'description', 'tagList', 'createdAt', 'updatedAt', 'favorited', 'favoritesCount']

/** An article as lists show it: all but its body. */
export function expectItem(article: Article): void {
  expectKeys(article, [...itemKeys, 'author'])
  expectParts(article)
}

export function expectArticle(article: Article): void {
  expectKeys(article, [...itemKeys, 'author', 'body'])
  assert.equal(typeof article.body, 'string')
  expectParts(article)
}

function expectParts(article: Article): void {
  for (const text of [article.slug, article.title, article.description]) assert.equal(typeof text, 'string')
  assert.notEqual(article.slug, '')
  assert.ok(Array.isArray(article.tagList) && article.tagList.every((tag) => typeof tag === 'string'))
  assert.equal(typeof article.favorited, 'boolean')
  assert.ok(Number.isInteger(article.favoritesCount) && article.favoritesCount >= 0)
  expectDates(article)
  expectProfile(article.author)
}

export function expectComment(comment: Comment): void {
  expectKeys(comment, ['id', 'createdAt', 'updatedAt', 'body', 'author'])
  assert.ok(Number.isSafeInteger(comment.id))
  assert.equal(typeof comment.body, 'string')
  expectDates(comment)
  expectProfile(comment.author)
}
