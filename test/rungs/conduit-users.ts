import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type Conduit,
  expectBody,
  expectErrors,
  expectErrorsOf,
  expectOneOf,
  listPath,
  profilePath,
  unique,
} from './conduit-client.ts'
import { expectUser } from './conduit-shapes.ts'

const blank = ["can't be blank"]
const taken = ['has already been taken']
const newUser = () => ({ username: unique('user'), email: `${unique('mail')}@example.com`, password: 'correct horse' })

/** Registering, and logging in. */
export function registrationTests(api: Conduit): void {
  const register = (user: unknown) => api.post('/users', { user })
  const login = (email: unknown, password: unknown) => api.post('/users/login', { user: { email, password } })

  describe('registration', () => {
    it('answers 201 with a user whose token works', async () => {
      const asked = newUser()
      const { user } = expectBody(await register(asked), 201)
      expectUser(user)
      assert.deepEqual(user, { ...user, username: asked.username, email: asked.email, bio: null, image: null })
      const current = expectBody(await api.get('/user', user.token)).user
      expectUser(current)
      assert.deepEqual({ ...current, token: '' }, { ...user, token: '' })
    })

    for (const field of ['username', 'email', 'password']) {
      for (const [name, value] of [
        ['empty', ''],
        ['null', null],
        ['absent', undefined],
        ['spaces', '   '],
      ] as const) {
        if (field === 'password' && name === 'spaces') continue
        it(`refuses a blank ${field} (${name})`, async () => {
          expectErrors(await register({ ...newUser(), [field]: value }), 422, { [field]: blank })
        })
      }
    }

    it('refuses a body that says nothing', async () => {
      for (const body of [{}, { user: {} }, { user: null }, { user: [] }, { username: 'x' }]) {
        expectBody(await api.post('/users', body), 422)
      }
    })

    it('refuses a taken username', async () => {
      const { username } = await api.person()
      expectErrors(await register({ ...newUser(), username }), 409, { username: taken })
    })

    it('refuses a taken email', async () => {
      const { email } = await api.person()
      expectErrors(await register({ ...newUser(), email }), 409, { email: taken })
    })

    it('refuses both taken, and leaves the first user alone', async () => {
      const first = await api.person()
      const { errors } = expectBody(await register({ ...first, password: 'another one' }), 409)
      assert.ok('username' in errors || 'email' in errors)
      expectBody(await login(first.email, first.password))
      expectErrors(await login(first.email, 'another one'), 401, { credentials: ['invalid'] })
    })

    for (const field of ['username', 'email']) {
      it(`gives one ${field} to one of many who ask at the same time`, async () => {
        const { [field]: wanted } = newUser() as Record<string, string>
        const answers = await Promise.all(Array.from({ length: 6 }, () => register({ ...newUser(), [field]: wanted })))
        assert.deepEqual(answers.map((answer) => answer.status).sort(), [201, 409, 409, 409, 409, 409])
        for (const answer of answers) if (answer.status === 409) expectErrors(answer, 409, { [field]: taken })
      })
    }

    it('takes an address with a plus, dots and a subdomain', async () => {
      const email = `first.last+${unique('tag')}@mail.example.co.uk`
      assert.equal((await api.person({ email })).email, email)
      expectBody(await login(email, 'correct horse'))
    })

    it('refuses an email that is none', async () => {
      for (const email of ['plain', 'two@', '@host.example', 'a b@example.com']) {
        expectErrorsOf(await register({ ...newUser(), email }), 422, 'email')
      }
    })

    it('never mixes up two names that differ in case only', async () => {
      const lower = await api.person({ username: unique('case'), email: `${unique('case')}@example.com` })
      const upper = { username: lower.username.toUpperCase(), email: lower.email.toUpperCase(), password: 'upper case' }
      if (expectOneOf(await register(upper), [201, 409]) === 201) {
        assert.equal(expectBody(await login(upper.email, upper.password)).user.username, upper.username)
      }
      assert.equal(expectBody(await login(lower.email, lower.password)).user.username, lower.username)
      assert.equal(expectBody(await api.get(profilePath(lower.username))).profile.username, lower.username)
    })

    const oddNames = [
      ...['Ünï cödé', 'dot.dot', 'plus+', 'percent%41', 'slash/slash', '?a=b#c', "o'brien", '<b>', '日本語', '🙂'],
      ...['x'.repeat(150), '日'.repeat(60)],
    ]
    for (const odd of oddNames) {
      it(`takes the username ${odd} and finds it again, or refuses it`, async () => {
        const asked = { ...newUser(), username: `${odd}${unique('')}` }
        const answer = await register(asked)
        if (expectOneOf(answer, [201, 422]) === 422) return expectErrorsOf(answer, 422, 'username')
        assert.equal(answer.body.user.username, asked.username)
        assert.equal(expectBody(await api.get(profilePath(asked.username))).profile.username, asked.username)
        await api.article(answer.body.user)
        assert.equal((await api.list({ author: asked.username })).articlesCount, 1)
      })
    }

    it('takes a name with spaces around it trimmed or as it is, or refuses it', async () => {
      const answer = await register({ ...newUser(), username: ` ${unique('around')} ` })
      if (expectOneOf(answer, [201, 422]) === 422) return
      const { username } = answer.body.user
      assert.equal(expectBody(await api.get(profilePath(username))).profile.username, username)
    })

    for (const [password, status] of [
      ['1234567', 422],
      ['12345678', 201],
      ['x'.repeat(64), 201],
      ['ü'.repeat(64), 201],
    ] as const) {
      it(`answers ${status} to a password of ${password.length} ${password[0]}`, async () => {
        const asked = { ...newUser(), password }
        const answer = await register(asked)
        if (status === 422) return expectErrorsOf(answer, 422, 'password')
        expectBody(answer, 201)
        expectBody(await login(asked.email, password))
        const shorter = [password.slice(0, -1), `${password.slice(0, -1)}!`]
        for (const wrong of shorter) expectErrors(await login(asked.email, wrong), 401, { credentials: ['invalid'] })
      })
    }

    it('refuses a username that is no part of an address', async () => {
      for (const username of [
        '.',
        '..',
        '../../x',
        'a/b',
        'a\\b',
        'x\r\nSet-Cookie: a=b',
        'x\u0000',
        'x\u202ey',
        '...',
        ' . .',
        // Names that look like another.
        ...[' alice', 'alice ', '\u3000alice', 'alice\u200b', '\u200b\u2060', 'al\u00adice', 'alice\ufeff', 'x\u2028y'],
      ]) {
        const answer = await api.post('/users', { user: { ...newUser(), username } })
        expectErrorsOf(answer, 422, 'username')
        assert.match(answer.text, /no invisible characters and no white space at its ends/)
      }
      for (const username of ['Zoë', '日本', '🙂', 'a b', 'a.b', '%2e%2e', "o'neil"])
        expectBody(await api.post('/users', { user: { ...newUser(), username: `${username}${unique('')}` } }), 201)
    })

    it('refuses a longer password, or holds all of it to be the password', async () => {
      const asked = { ...newUser(), password: 'long'.repeat(64) }
      if (expectOneOf(await register(asked), [201, 422]) === 422) return
      expectBody(await login(asked.email, asked.password))
      expectErrors(await login(asked.email, `${asked.password.slice(0, -1)}!`), 401, { credentials: ['invalid'] })
    })

    it('lets nobody choose what is the app’s to choose', async () => {
      const answer = await register({ ...newUser(), id: 1, token: 'mine', admin: true, bio: 'mine' })
      if (expectOneOf(answer, [201, 422]) === 201) {
        expectUser(answer.body.user)
        assert.notEqual(answer.body.user.token, 'mine')
      }
    })
  })

  describe('login', () => {
    it('answers 200 with a user whose token works', async () => {
      const person = await api.person()
      const update = { bio: 'Somebody', image: 'https://example.com/me.png' }
      expectBody(await api.put('/user', { user: update }, person.token))
      const { user } = expectBody(await login(person.email, person.password))
      expectUser(user)
      assert.deepEqual(user, { username: person.username, email: person.email, token: user.token, ...update })
      assert.equal(expectBody(await api.get('/user', user.token)).user.username, person.username)
    })

    it('says the same to a wrong password and to an unknown email', async () => {
      const person = await api.person()
      const wrong = [
        await login(person.email, 'wrong horse'),
        await login(person.email, person.password.toUpperCase()),
        await login(person.email, `${person.password} `),
        await login(person.username, person.password),
        await login(`${unique('nobody')}@example.com`, person.password),
      ]
      for (const answer of wrong) expectErrors(answer, 401, { credentials: ['invalid'] })
    })

    for (const field of ['email', 'password']) {
      for (const [name, value] of [
        ['empty', ''],
        ['null', null],
        ['absent', undefined],
      ] as const) {
        it(`refuses a blank ${field} (${name})`, async () => {
          const credentials = { email: `${unique('mail')}@example.com`, password: 'correct horse', [field]: value }
          expectErrors(await api.post('/users/login', { user: credentials }), 422, { [field]: blank })
        })
      }
    }
  })
}

/** The current user: reading it and changing it. */
export function currentUserTests(api: Conduit): void {
  const update = (token: string, user: unknown) => api.put('/user', { user }, token)
  const login = (email: string, password: string) => api.post('/users/login', { user: { email, password } })

  describe('current user', () => {
    const changes: [string, () => string | null][] = [
      ['username', () => unique('renamed')],
      ['email', () => `${unique('moved')}@example.com`],
      ['bio', () => 'Another bio'],
      ['bio', () => null],
      ['image', () => 'https://example.com/other.png'],
      ['image', () => null],
    ]
    for (const [field, value] of changes) {
      it(`changes ${field} alone${value() === null ? ', to null' : ''}`, async () => {
        const person = await api.person()
        const before = expectBody(await update(person.token, { bio: 'Bio', image: 'https://example.com/a.png' })).user
        const change = { [field]: value() }
        const { user } = expectBody(await update(before.token, change))
        expectUser(user)
        assert.deepEqual({ ...user, token: '' }, { ...before, ...change, token: '' })
        const read = expectBody(await api.get('/user', user.token)).user
        assert.deepEqual({ ...read, token: '' }, { ...user, token: '' })
        const { username, email, bio, image } = user
        const { profile } = expectBody(await api.get(profilePath(username)))
        assert.deepEqual(profile, { username, bio, image, following: false })
        assert.equal(expectBody(await login(email, person.password)).user.username, username)
      })
    }

    it('changes all at once', async () => {
      const { token } = await api.person()
      const all = { ...newUser(), password: 'battery staple', bio: 'All of it', image: 'https://example.com/b.png' }
      const { user } = expectBody(await update(token, all))
      const { password, ...shown } = all
      assert.deepEqual(user, { ...shown, token: user.token })
      assert.equal(expectBody(await login(all.email, password)).user.username, all.username)
    })

    it('makes an empty bio and image null', async () => {
      const { token } = await api.person()
      const filled = expectBody(await update(token, { bio: 'Bio', image: 'https://example.com/a.png' })).user
      const { user } = expectBody(await update(filled.token, { bio: '', image: '' }))
      assert.deepEqual([user.bio, user.image], [null, null])
      const read = expectBody(await api.get('/user', user.token)).user
      assert.deepEqual([read.bio, read.image], [null, null])
    })

    it('changes the password: the new one logs in, the old one does not', async () => {
      const person = await api.person()
      const { user } = expectBody(await update(person.token, { password: 'battery staple' }))
      expectBody(await api.get('/user', user.token))
      expectBody(await login(person.email, 'battery staple'))
      expectErrors(await login(person.email, person.password), 401, { credentials: ['invalid'] })
    })

    it('keeps the password when another field changes', async () => {
      const person = await api.person()
      expectBody(await update(person.token, { bio: 'Bio' }))
      expectBody(await login(person.email, person.password))
    })

    it('moves profile and articles along with a new username', async () => {
      const person = await api.person()
      const article = await api.article(person)
      const username = unique('moved')
      expectBody(await update(person.token, { username }))
      expectErrors(await api.get(profilePath(person.username)), 404, { profile: ['not found'] })
      const moved = await api.list({ author: username })
      assert.deepEqual([moved.articlesCount, moved.articles[0]?.slug], [1, article.slug])
      assert.equal(moved.articles[0]?.author.username, username)
      assert.equal((await api.list({ author: person.username })).articlesCount, 0)
    })

    it('logs in with a new email, no longer with the old one', async () => {
      const person = await api.person()
      const email = `${unique('new')}@example.com`
      expectBody(await update(person.token, { email }))
      expectBody(await login(email, person.password))
      expectErrors(await login(person.email, person.password), 401, { credentials: ['invalid'] })
    })

    it('frees a name that was given up', async () => {
      const first = await api.person()
      expectBody(await update(first.token, { username: unique('gone'), email: `${unique('gone')}@example.com` }))
      await api.person({ username: first.username, email: first.email })
    })

    for (const field of ['username', 'email', 'password']) {
      for (const value of ['', null]) {
        it(`refuses a blank ${field} (${JSON.stringify(value)})`, async () => {
          const person = await api.person()
          expectErrors(await update(person.token, { [field]: value }), 422, { [field]: blank })
          expectBody(await login(person.email, person.password))
        })
      }
    }

    it('refuses a short password', async () => {
      const person = await api.person()
      expectErrorsOf(await update(person.token, { password: '1234567' }), 422, 'password')
      expectBody(await login(person.email, person.password))
    })

    for (const field of ['username', 'email'] as const) {
      it(`refuses a taken ${field}, and then changes nothing`, async () => {
        const other = await api.person()
        const person = await api.person()
        expectErrors(await update(person.token, { bio: 'half done', [field]: other[field] }), 409, { [field]: taken })
        const { user } = expectBody(await api.get('/user', person.token))
        assert.deepEqual([user.username, user.email, user.bio], [person.username, person.email, null])
      })

      it(`takes one’s own ${field} again`, async () => {
        const person = await api.person()
        assert.equal(expectBody(await update(person.token, { [field]: person[field] })).user[field], person[field])
      })

      it(`gives one ${field} to one of many who change to it at the same time`, async () => {
        const people = await Promise.all(Array.from({ length: 5 }, () => api.person()))
        const { [field]: wanted } = newUser()
        const answers = await Promise.all(people.map(({ token }) => update(token, { [field]: wanted })))
        assert.deepEqual(answers.map((answer) => answer.status).sort(), [200, 409, 409, 409, 409])
      })
    }

    it('takes an update of nothing as one, or refuses it', async () => {
      const { token, ...person } = await api.person()
      expectOneOf(await update(token, {}), [200, 422])
      const { user } = expectBody(await api.get('/user', token))
      assert.deepEqual([user.username, user.email], [person.username, person.email])
    })

    it('lets nobody change what is the app’s to choose', async () => {
      const { token, username } = await api.person()
      expectOneOf(await update(token, { id: 1, token: 'mine', createdAt: 'x', following: true }), [200, 422])
      const { user } = expectBody(await api.get('/user', token))
      expectUser(user)
      assert.equal(user.username, username)
    })

    it('shows its changes wherever the user is shown', async () => {
      const person = await api.person()
      const { slug } = await api.article(person)
      await api.comment(person, slug)
      const image = 'https://example.com/new.png'
      expectBody(await update(person.token, { bio: 'New bio', image }))
      const shown = { username: person.username, bio: 'New bio', image, following: false }
      assert.deepEqual(expectBody(await api.get(profilePath(person.username))).profile, shown)
      assert.deepEqual(expectBody(await api.get(listPath({ author: person.username }))).articles[0]?.author, shown)
      assert.deepEqual(expectBody(await api.get(`/articles/${slug}`)).article.author, shown)
      assert.deepEqual(expectBody(await api.get(`/articles/${slug}/comments`)).comments[0]?.author, shown)
    })
  })
}
