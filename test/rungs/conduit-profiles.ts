import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { articlePath, type Conduit, expectBody, expectErrors, profilePath, unique } from './conduit-client.ts'
import { expectProfile } from './conduit-shapes.ts'

const notFound = { profile: ['not found'] }

export function profileTests(api: Conduit): void {
  const following = async (username: string, token?: string) =>
    expectBody(await api.get(profilePath(username), token)).profile.following

  describe('profiles', () => {
    it('are open to everybody', async () => {
      const person = await api.person()
      const update = { bio: 'Who I am', image: 'https://example.com/me.png' }
      expectBody(await api.put('/user', { user: update }, person.token))
      const { profile } = expectBody(await api.get(profilePath(person.username)))
      expectProfile(profile)
      assert.deepEqual(profile, { username: person.username, following: false, ...update })
    })

    it('have null where nothing was said', async () => {
      const { username } = await api.person()
      const { profile } = expectBody(await api.get(profilePath(username)))
      assert.deepEqual(profile, { username, bio: null, image: null, following: false })
    })

    it('of nobody are not found', async () => {
      const { token } = await api.person()
      const path = profilePath(unique('nobody'))
      expectErrors(await api.get(path), 404, notFound)
      expectErrors(await api.get(path, token), 404, notFound)
      expectErrors(await api.post(`${path}/follow`, undefined, token), 404, notFound)
      expectErrors(await api.remove(`${path}/follow`, token), 404, notFound)
    })

    it('can be followed and unfollowed, again and again', async () => {
      const [fan, star] = [await api.person(), await api.person()]
      for (const [change, expected] of [
        [api.follow, true],
        [api.follow, true],
        [api.unfollow, false],
        [api.unfollow, false],
        [api.follow, true],
      ] as const) {
        const { profile } = expectBody(await change(fan, star.username))
        expectProfile(profile)
        assert.deepEqual([profile.username, profile.following], [star.username, expected])
        assert.equal(await following(star.username, fan.token), expected)
      }
    })

    it('are followed by the one who asked, in one direction', async () => {
      const [fan, star, other] = [await api.person(), await api.person(), await api.person()]
      expectBody(await api.follow(fan, star.username))
      const seen = [
        await following(star.username, fan.token),
        await following(star.username),
        await following(star.username, other.token),
        await following(star.username, star.token),
        await following(fan.username, star.token),
        await following(other.username, fan.token),
      ]
      assert.deepEqual(seen, [true, false, false, false, false, false])
      expectBody(await api.unfollow(other, star.username))
      assert.equal(await following(star.username, fan.token), true, 'unfollowed by another')
    })

    it('take many follows at the same time as one', async () => {
      const [fan, star] = [await api.person(), await api.person()]
      const answers = await Promise.all(Array.from({ length: 8 }, () => api.follow(fan, star.username)))
      for (const answer of answers) assert.equal(expectBody(answer).profile.following, true)
      expectBody(await api.unfollow(fan, star.username))
      assert.equal(await following(star.username, fan.token), false)
    })

    it('show each viewer whom they follow, with articles and comments too', async () => {
      const [fan, star, other] = [await api.person(), await api.person(), await api.person()]
      const { slug } = await api.article(star)
      await api.comment(star, slug)
      await api.comment(other, slug)
      await api.follow(fan, star.username)
      for (const [token, expected] of [
        [fan.token, true],
        [other.token, false],
        [undefined, false],
      ] as const) {
        assert.equal(expectBody(await api.get(articlePath(slug), token)).article.author.following, expected)
        assert.equal((await api.list({ author: star.username }, token)).articles[0]?.author.following, expected)
        const { comments } = expectBody(await api.get(`${articlePath(slug)}/comments`, token))
        const flags = Object.fromEntries(comments.map(({ author }) => [author.username, author.following]))
        assert.deepEqual(flags, { [star.username]: expected, [other.username]: false })
      }
      assert.equal(expectBody(await api.favorite(fan, slug)).article.author.following, true)
      assert.equal((await api.comment(fan, slug)).author.following, false)
    })
  })
}
