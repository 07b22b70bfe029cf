import { createHash } from 'node:crypto'
import { defineScript, type RedisClient } from '../../engines/redis/client.ts'
import { after } from '../../kernel/clock.ts'
import { RungError } from '../../kernel/errors.ts'
import { secret } from '../../kernel/random.ts'
import type { Found, SessionInfo } from './contract.ts'
import type { SessionCopies } from './copies.ts'

/**
 * Copies of sessions in Redis. A copy counts only beside the versions of its session and its principal that it was kept
 * with; to forget is to delete a version. So nothing that the engine drops by itself brings a session back. All keys of an app
 * have one hash tag: a script touches a copy and its versions, and in a cluster they must lie in one slot.
 *
 *     {app}:session:<run id>.<edition>:n              changes when something is forgotten for good
 *     {app}:session:<run id>.<edition>:d:<digest>     the copy
 *     {app}:session:<run id>.<edition>:i:<id>         version of a session
 *     {app}:session:<run id>.<edition>:p:<principal>  version of a principal
 *
 * The run id is that of the server at the other end of this connection: a server that was started again, with an old dump
 * perhaps, or another one that took its place, has nothing under it.
 */
export function redisSessionCopies(client: RedisClient, app: string): SessionCopies {
  let engine: string | undefined
  /** Connections that there have been: who asks on one must not take its answer for one of the next. */
  let connections = 0
  client.onChange((isUp) => {
    engine = undefined
    connections += 1
    if (isUp) identify()
  })
  if (client.isUp) identify()

  function identify(): void {
    const connection = connections
    client.info('server').then(
      ({ run_id: run }) => {
        if (connection === connections) engine = run?.slice(0, 16)
      },
      () => {
        after(identifyAgainMs, () => {
          if (connection === connections && client.isUp) identify()
        })
      },
    )
  }

  function rootOf(edition: string, ofTicket?: string): string {
    if (engine === undefined || (ofTicket !== undefined && ofTicket !== engine)) {
      throw new RungError('REDIS_UNAVAILABLE', 'Redis cannot be used at the moment: it is not known which one it is.')
    }
    return `{${app}}:session:${engine}.${edition}`
  }

  return {
    get engine() {
      return engine
    },

    async find(edition, digest) {
      const root = rootOf(edition)
      const of = engine!
      const args = [root, secret(9), countMs]
      const [text, ageMs, number, at] = (await client.script(
        findScript,
        [`${root}:n`, digestKey(root, digest)],
        args,
      )) as [string, number, string, number]
      const found = text === '' ? undefined : decode(text)
      if (found) return { copy: { found, ageMs } }
      return { ticket: { engine: of, number, at } }
    },

    async keep(edition, digest, found, ticket, ms) {
      const root = rootOf(edition, ticket.engine)
      const { id, principal } = found.session
      const keys = [`${root}:n`, digestKey(root, digest), idKey(root, id), principalKey(root, principal)]
      await client.script(keepScript, keys, [ticket.number, ticket.at, ms, secret(9), encode(found)])
    },

    async forget(edition, who, forGood) {
      const root = rootOf(edition)
      const keys = 'ids' in who ? who.ids.map((id) => idKey(root, id)) : [principalKey(root, who.principal)]
      await client.script(forgetScript, [`${root}:n`, ...keys], [forGood ? secret(9) : '', countMs])
    },
  }
}

const identifyAgainMs = 200

/** Ids come from `uuid()`, principals from anywhere. */
const idKey = (root: string, id: string) => `${root}:i:${id}`
const principalKey = (root: string, principal: string) => `${root}:p:${hash(principal)}`
const digestKey = (root: string, digest: Uint8Array) => `${root}:d:${Buffer.from(digest).toString('base64url')}`

function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

/** What \`n\` is kept for after its last use. Without it tickets are void, which costs a copy. */
const countMs = 600_000

/** \`<version of the id> <version of the principal> <when> <id> <principal's hash> <found>\` in one text. */
function encode({ session, ...rest }: Found): string {
  const kept = [session.id, hash(session.principal), JSON.stringify({ ...rest, session })]
  return kept.join(' ')
}

function decode(text: string): Found | undefined {
  const { session, ...rest } = JSON.parse(text) as Found
  const date = (value: unknown) => new Date(value as string)
  const info: SessionInfo = {
    ...session,
    plan: session.plan,
    createdAt: date(session.createdAt),
    seenAt: date(session.seenAt),
  }
  return { ...rest, session: info }
}

const now = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

const findScript = defineScript(`${now}
local copy = redis.call('GET', KEYS[2])
if copy then
  local v, p, at, id, who, text = string.match(copy, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if v and redis.call('GET', ARGV[1] .. ':i:' .. id) == v and redis.call('GET', ARGV[1] .. ':p:' .. who) == p then
    return { text, now - tonumber(at), '', now }
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { '', 0, redis.call('GET', KEYS[1]), now }
`)

/** Its life counts from the ticket on. Versions live as long as the last copy that has them. */
const keepScript = defineScript(`${now}
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local life = tonumber(ARGV[2]) + tonumber(ARGV[3]) - now
if life <= 0 then return 0 end
local versions = {}
for i = 3, 4 do
  redis.call('SET', KEYS[i], ARGV[4], 'NX', 'PX', life)
  if redis.call('PTTL', KEYS[i]) < life then redis.call('PEXPIRE', KEYS[i], life) end
  versions[i] = redis.call('GET', KEYS[i])
end
redis.call('SET', KEYS[2], versions[3] .. ' ' .. versions[4] .. ' ' .. ARGV[2] .. ' ' .. ARGV[5], 'PX', life)
return 1
`)

const forgetScript = defineScript(`
if ARGV[1] ~= '' then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return 1
`)
