import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync, sign } from 'node:crypto'
import { describe, it } from 'node:test'
import { articlePath, type Conduit, expectBody, expectErrors, listPath, profilePath } from './conduit-client.ts'

const missing = { token: ['is missing'] }
const invalid = { token: ['is invalid'] }

interface Token {
  header: Record<string, unknown>
  claims: Record<string, unknown>
  signature: string
  /** Header and claims as they came, which is what the signature covers. */
  signed: string
}

const encode = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url')
const decode = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString())

function read(token: string): Token {
  const [header = '', claims = '', signature = ''] = token.split('.')
  return { header: decode(header), claims: decode(claims), signature, signed: `${header}.${claims}` }
}

function signedWith(key: string, header: unknown, claims: unknown): string {
  const signed = `${encode(header)}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`
}

/** Signed by a key pair whose public half the token itself brings along. */
function signedWithOwnKey(claims: unknown): string {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const signed = `${encode({ alg: 'EdDSA', typ: 'JWT', jwk: publicKey.export({ format: 'jwk' }) })}.${encode(claims)}`
  return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString('base64url')}`
}

/** The signature with one of its middle characters changed: the last one may hold bits that do not count. */
function flipped(signature: string): string {
  const at = Math.floor(signature.length / 2)
  return `${signature.slice(0, at)}${signature[at] === 'A' ? 'B' : 'A'}${signature.slice(at + 1)}`
}

const hs256 = { alg: 'HS256', typ: 'JWT' }
const hour = 3600
const nowInSeconds = () => Math.floor(Date.now() / 1000)

/** Each makes a token that must not be taken, of one that is good. */
const forgeries: Record<string, (good: Token) => string> = {
  garbage: () => 'garbage',
  'three letters': () => 'a.b.c',
  'a huge one': () => `${'x'.repeat(3000)}.${'y'.repeat(3000)}.${'z'.repeat(86)}`,
  'header and claims alone': ({ signed }) => signed,
  'an empty signature': ({ signed }) => `${signed}.`,
  'another signature': ({ signed }) => `${signed}.c2lnbmF0dXJl`,
  'a flipped signature': ({ signed, signature }) => `${signed}.${flipped(signature)}`,
  'a fourth part': ({ signed, signature }) => `${signed}.${signature}.${signature}`,
  'other claims': ({ header, claims, signature }) => `${encode(header)}.${encode({ ...claims, more: 1 })}.${signature}`,
  'claims that are no JSON': ({ header, signature }) => `${encode(header)}.${'e30'.slice(0, 2)}.${signature}`,
  'claims that are an array': ({ header, signature }) => `${encode(header)}.${encode([])}.${signature}`,
  'no algorithm': ({ claims }) => `${encode({ ...hs256, alg: 'none' })}.${encode(claims)}.`,
  'no algorithm, in capitals': ({ claims }) => `${encode({ ...hs256, alg: 'NONE' })}.${encode(claims)}.`,
  'no algorithm, and the old signature': ({ claims, signature }) =>
    `${encode({ ...hs256, alg: 'none' })}.${encode(claims)}.${signature}`,
  'the key of somebody else': ({ claims }) => signedWith('another key', hs256, claims),
  'an empty key': ({ claims }) => signedWith('', hs256, claims),
  'a key named in the header': ({ claims }) => signedWith('', { ...hs256, kid: '../../../dev/null' }, claims),
  'a key brought along': ({ claims }) => signedWithOwnKey(claims),
  'expired, of another key': ({ claims }) =>
    signedWith('another key', hs256, { ...claims, iat: nowInSeconds() - 2 * hour, exp: nowInSeconds() - hour }),
}

/** Who may call: every operation that needs a token, and every way not to have one. */
export function tokenTests(api: Conduit): void {
  const protectedCalls = (name: string, slug: string): [string, string, unknown?][] => [
    ['GET', '/user'],
    ['PUT', '/user', { user: { bio: 'changed' } }],
    ['POST', `${profilePath(name)}/follow`],
    ['DELETE', `${profilePath(name)}/follow`],
    ['GET', '/articles/feed'],
    ['POST', '/articles', { article: { title: 'T', description: 'D', body: 'B' } }],
    ['PUT', articlePath(slug), { article: { title: 'changed' } }],
    ['DELETE', articlePath(slug)],
    ['POST', `${articlePath(slug)}/comments`, { comment: { body: 'B' } }],
    ['DELETE', `${articlePath(slug)}/comments/1`],
    ['POST', `${articlePath(slug)}/favorite`],
    ['DELETE', `${articlePath(slug)}/favorite`],
  ]

  describe('tokens', () => {
    for (const [index, [method, path]] of protectedCalls('name', 'slug').entries()) {
      it(`${method} ${path} needs a good token`, async () => {
        const author = await api.person()
        const { slug } = await api.article(author)
        const [, livePath, body] = protectedCalls(author.username, slug)[index]!
        expectErrors(await api.call(method, livePath, { body }), 401, missing)
        const token = forgeries['the key of somebody else']!(read(author.token))
        expectErrors(await api.call(method, livePath, { body, token }), 401, invalid)
        const { article } = expectBody(await api.get(articlePath(slug), author.token))
        assert.deepEqual([article.favoritesCount, article.author.bio], [0, null])
      })

      it(`${method} ${path} asks for the token before anything else`, async () => {
        const [, path, body] = protectedCalls('no-such-user', 'no-such-slug')[index]!
        expectErrors(await api.call(method, path, { body }), 401, missing)
        if (body !== undefined) expectErrors(await api.call(method, path, { body: {} }), 401, missing)
      })
    }

    for (const [name, forge] of Object.entries(forgeries)) {
      it(`refuses a token with ${name}`, async () => {
        const { token } = await api.person()
        expectErrors(await api.get('/user', forge(read(token))), 401, invalid)
      })
    }

    it('takes the scheme Token alone', async () => {
      const { token } = await api.person()
      const other = [`Bearer ${token}`, `Basic ${token}`, token, 'Token', 'Token ', '', `Token: ${token}`, 'Token null']
      for (const authorization of other) {
        const { errors } = expectBody(await api.call('GET', '/user', { headers: { authorization } }), 401)
        assert.deepEqual(Object.keys(errors), ['token'], authorization)
        assert.ok(['is missing', 'is invalid'].includes(errors.token?.[0] ?? ''), authorization)
      }
    })

    it('takes nobody for somebody on a bad token where a token is optional', async () => {
      const reader = await api.person()
      const author = await api.person()
      const { slug } = await api.article(author)
      await api.comment(author, slug)
      await api.follow(reader, author.username)
      await api.favorite(reader, slug)
      for (const forge of Object.values(forgeries)) {
        const token = forge(read(reader.token))
        const [profile, article, list, comments] = await Promise.all([
          api.get(profilePath(author.username), token),
          api.get(articlePath(slug), token),
          api.get(listPath({ author: author.username }), token),
          api.get(`${articlePath(slug)}/comments`, token),
        ])
        assert.equal(expectBody(profile).profile.following, false)
        assert.equal(expectBody(article).article.favorited, false)
        assert.equal(expectBody(list).articles[0]?.favorited, false)
        assert.equal(expectBody(comments).comments[0]?.author.following, false)
      }
    })

    it('end with the password that they were made by; one that replaces another keeps the time of its sign-in', async () => {
      const person = await api.person()
      const { email, password } = person
      const other = expectBody(await api.post('/users/login', { user: { email, password } })).user
      const renewed = expectBody(await api.get('/user', person.token)).user
      assert.equal(read(renewed.token).claims.auth_time, read(person.token).claims.auth_time)
      const changes = { password: 'another horse', currentPassword: 'not it at all' }
      expectErrors(await api.put('/user', { user: changes }, person.token), 403, { currentPassword: ['is wrong'] })
      const change = { ...changes, currentPassword: password }
      const { user } = expectBody(await api.put('/user', { user: change }, person.token))
      for (const token of [person.token, other.token, renewed.token]) {
        expectErrors(await api.get('/user', token), 401, invalid)
        expectErrors(await api.put('/user', { user: { bio: 'mine' } }, token), 401, invalid)
      }
      assert.equal(expectBody(await api.get('/user', user.token)).user.email, email)
      expectBody(await api.post('/users/login', { user: { email, password } }), 401)
      expectBody(await api.post('/users/login', { user: { email, password: 'another horse' } }))
    })

    it('belong to one user each', async () => {
      const [one, two] = [await api.person(), await api.person()]
      assert.notEqual(one.token, two.token)
      assert.equal(expectBody(await api.get('/user', one.token)).user.username, one.username)
      assert.equal(expectBody(await api.get('/user', two.token)).user.username, two.username)
    })
  })
}
