import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import sharp from 'sharp'
import { until } from '../support/process.ts'
import { expectBody, type Person } from './conduit-client.ts'
import { fetchAt, type Scene, settled } from './conduit-extended.ts'
import { bomb, noise } from './conduit-pictures.ts'

interface Avatar {
  state: 'none' | 'processing' | 'ready' | 'failed'
  error: string | null
  image: string | null
}

export function avatarTests(scene: Scene): void {
  const { api, target } = scene

  const put = (person: { token?: string }, content: Uint8Array | string, type = 'image/png') =>
    fetchAt(target, '/api/user/avatar', {
      method: 'PUT',
      body: content as NonNullable<RequestInit['body']>,
      headers: { 'content-type': type, ...(person.token && { authorization: `Token ${person.token}` }) },
    })
  const avatarOf = async (person: Person) =>
    (expectBody(await api.get('/user/avatar', person.token)) as never as { avatar: Avatar }).avatar
  const imageOf = async (person: Person) => expectBody(await api.get('/user', person.token)).user.image
  const quiet = () => settled(scene, ['avatars', 'avatars.sweep'])

  async function upload(person: Person, content: Uint8Array, type?: string): Promise<Avatar> {
    const answer = await put(person, content, type)
    assert.equal(answer.status, 202, await answer.text())
    const avatar = await until(async () => {
      const found = await avatarOf(person)
      return found.state !== 'processing' && found
    }, 'the picture is an avatar, or not')
    await quiet()
    return avatar
  }

  describe('an avatar', () => {
    for (const format of ['png', 'jpeg', 'webp'] as const) {
      it(`is made of a ${format}`, async () => {
        const person = await api.person()
        assert.deepEqual(await avatarOf(person), { state: 'none', error: null, image: null })
        const { state, image } = await upload(person, await noise(800, 600, format), `image/${format}`)
        assert.equal(state, 'ready')
        assert.equal(await imageOf(person), image)
        const { profile } = expectBody(await api.get(`/profiles/${person.username}`))
        assert.equal(profile.image, image)
        for (const size of [64, 256, 512]) {
          const answer = await fetchAt(target, image!.replace('/256.', `/${size}.`))
          assert.equal(answer.status, 200)
          assert.equal(answer.headers.get('content-type'), 'image/webp')
          assert.equal(answer.headers.get('cache-control'), 'public, max-age=31536000, immutable')
          const { format: is, width, height, exif } = await sharp(await answer.bytes()).metadata()
          assert.deepEqual([is, width, height, exif], ['webp', size, size, undefined])
        }
        for (const wrong of [image!.replace('/256.', '/100.'), image!.replace(/-./, '-x'), `${image}x`]) {
          const answer = await fetchAt(target, wrong)
          assert.equal(answer.status, 404)
          assert.equal(answer.headers.get('cache-control'), 'no-store')
        }
      })
    }

    it('is refused when it is something else, whatever it is called', async () => {
      const person = await api.person()
      for (const [content, type] of [
        ['<svg xmlns="http://www.w3.org/2000/svg"/>', 'image/svg+xml'],
        ['<script>alert(1)</script>', 'image/png'],
        ['GIF89a\x01\x00\x01\x00\x00\x00\x00', 'image/png'],
        ['', 'image/png'],
        ['{}', 'application/json'],
        ['text', 'text/plain'],
        ['text', 'application/octet-stream'],
      ] as const) {
        const answer = await put(person, content, type)
        assert.equal(answer.status, 415, `${type} ${await answer.clone().text()}`)
        assert.ok('errors' in ((await answer.json()) as object))
      }
      assert.equal((await put({}, await noise(8, 8))).status, 401)
      assert.deepEqual(await avatarOf(person), { state: 'none', error: null, image: null })
    })

    it('is refused when it is too large', async () => {
      const person = await api.person()
      const large = Buffer.concat([await noise(800, 600), Buffer.alloc(5 * 1024 * 1024)])
      assert.equal((await put(person, large, 'image/jpeg')).status, 413)
      assert.deepEqual(await avatarOf(person), { state: 'none', error: null, image: null })
    })

    it('that is corrupt or a bomb has failed, keeps the one before, and leaves nothing', async () => {
      const person = await api.person()
      const { image } = await upload(person, await noise(300, 300))
      const files = (await scene.filesOf('avatars')).length
      const whole = await noise(400, 400, 'png')
      for (const bad of [whole.subarray(0, whole.length / 2), whole.subarray(0, 200), bomb()]) {
        assert.deepEqual(await upload(person, bad), { state: 'failed', error: 'the picture cannot be read', image })
        assert.equal(await imageOf(person), image)
        assert.equal((await scene.filesOf('avatars')).length, files)
      }
      const better = await upload(person, whole)
      assert.equal(better.state, 'ready')
      const rows = await scene.query(
        'select state from avatars.upload where account_id = (select id from identity.account where username = $1)',
        [person.username],
      )
      assert.deepEqual(rows, [{ state: 'ready' }])
    })

    it('goes when another takes its place', async () => {
      const person = await api.person()
      const same = await noise(300, 200)
      const first = (await upload(person, same)).image!
      const files = (await scene.filesOf('avatars')).length
      const second = (await upload(person, same)).image!
      assert.notEqual(second, first)
      assert.equal(await imageOf(person), second)
      assert.equal((await scene.filesOf('avatars')).length, files)
      for (const size of [64, 256, 512]) {
        assert.equal((await fetchAt(target, first.replace('/256.', `/${size}.`))).status, 404)
        assert.equal((await fetchAt(target, second.replace('/256.', `/${size}.`))).status, 200)
      }
      const pictures = await Promise.all(Array.from({ length: 6 }, (_, n) => noise(100 + n, 100)))
      await Promise.all(pictures.map((content) => put(person, content, 'image/jpeg')))
      await quiet()
      const { state, image } = await avatarOf(person)
      assert.equal(state, 'ready')
      assert.equal(await imageOf(person), image)
      assert.equal((await scene.filesOf('avatars')).length, files)
    })

    it('is removed by its owner, who keeps a picture from elsewhere', async () => {
      const person = await api.person()
      const before = (await scene.filesOf('avatars')).length
      const remove = async () => {
        expectBody(await api.remove('/user/avatar', person.token), 204)
        await quiet()
        assert.deepEqual(await avatarOf(person), { state: 'none', error: null, image: null })
        assert.equal((await scene.filesOf('avatars')).length, before)
      }
      const { image } = await upload(person, await noise(300, 300))
      await remove()
      assert.equal(await imageOf(person), null)
      assert.equal((await fetchAt(target, image!)).status, 404)
      await remove()
      await upload(person, await noise(300, 300))
      const elsewhere = 'https://example.org/me.png'
      expectBody(await api.put('/user', { user: { image: elsewhere } }, person.token))
      await remove()
      assert.equal(await imageOf(person), elsewhere)
    })

    it('that was given up half-way is swept up', async () => {
      const person = await api.person()
      await scene.query(
        `insert into avatars.upload (account_id, state, sha256, created_at)
          select id, state, 'ab', now() - interval '2 hours' from identity.account, unnest(array['receiving', 'processing']) state
          where username = $1`,
        [person.username],
      )
      await scene.tick('avatars')
      await quiet()
      assert.deepEqual(await avatarOf(person), {
        state: 'failed',
        error: 'it went wrong here; try again',
        image: null,
      })
    })

    it('has the files that its rows say, and no others', async () => {
      const [row] = await scene.query<{ n: number }>(
        "select 3 * count(*)::int as n from avatars.upload where state = 'ready'",
      )
      assert.equal((await scene.filesOf('avatars')).length, row!.n)
      const odd = await scene.query("select state from avatars.upload where state not in ('ready', 'failed')")
      assert.deepEqual(odd, [])
    })
  })
}
