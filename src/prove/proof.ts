import { RungError } from '../kernel/errors.ts'
import type { Random } from '../kernel/random.ts'
import type { Client, ProofUser } from './client.ts'

/**
 * What an app promises, said so that it can be tried: what users write, and where they read it. Rung opens sessions that do so while parts of
 * the fleet fail, records what they did and saw, and checks it.
 */
export interface Proof<User extends ProofUser = ProofUser> {
  /** Signs users in, and makes what they work on. Runs once, before anything fails. Five users are enough: they share few keys, so that they meet. */
  users(client: Client<ProofUser>): Promise<readonly User[]>
  /** Sessions that begin in a second, each with a dozen steps. Default 3, which is also the least: with fewer, silence would be chance. */
  rate?: number
  registers?: readonly Register<User>[]
  collections?: readonly Collection<User>[]
  once?: readonly Once<User>[]
  accounts?: Accounts<User>
  queue?: Queue<User>
  /** Further addresses that users open, and that have to answer. */
  pages?: readonly string[]
}

/** A value that is replaced: the text of an article. No acknowledged value is lost, and no session goes back in time. */
export interface Register<User extends ProofUser = ProofUser> {
  /** `body of an article` */
  name: string
  /** What this user may write. */
  keys(user: User): readonly string[]
  /** Whether users may read what others write. Default true. */
  everybodyReads?: boolean
  write(client: Client<User>, key: string, value: string): Promise<unknown>
  /** Returns what is shown. An answer of 404 means that there is no value. */
  read(client: Client<User>, key: string): Promise<string | null>
  /** What was replaced longer ago than this must not be shown to anybody, in ms. Default: sessions are promised no more than their own past. */
  staleMsMax?: number
}

/** Something to which one adds: the comments on an article. Nothing that was acknowledged is missing in the end, and nothing is there twice. */
export interface Collection<User extends ProofUser = ProofUser> {
  name: string
  keys(user: User): readonly string[]
  add(client: Client<User>, key: string, value: string): Promise<unknown>
  /** Returns all that is in it. */
  list(client: Client<User>, key: string): Promise<readonly string[]>
}

/** A request that has one effect however often it is sent: `client` adds the Idempotency-Key, and sends it again until the outcome is known. */
export interface Once<User extends ProofUser = ProofUser> {
  name: string
  /** @param id unique; it has to be found in `effects` */
  send(client: Client<User>, id: string): Promise<unknown>
  /** Returns the id of each effect of this user. */
  effects(client: Client<User>): Promise<readonly string[]>
}

/** Amounts that neither appear nor vanish: stock, money. */
export interface Accounts<User extends ProofUser = ProofUser> {
  name: string
  /** What the next change adds to which account: of this user, by name. */
  plan(user: User, random: Random): Readonly<Record<string, number>>
  /** Sent with an Idempotency-Key, and again until the outcome is known. A refusal, such as 409, means that nothing changed. */
  change(client: Client<User>, amounts: Readonly<Record<string, number>>): Promise<unknown>
  /** Returns what the accounts of this user hold. */
  levels(client: Client<User>): Promise<Readonly<Record<string, number>>>
  /** No account may ever hold less. */
  least?: number
}

/** Work that is done later: what was asked for is done, once. */
export interface Queue<User extends ProofUser = ProofUser> {
  name: string
  publish(client: Client<User>, message: string): Promise<unknown>
  /** Returns each message of this user that was worked off, as often as it was. */
  effects(client: Client<User>): Promise<readonly string[]>
}

/**
 * Infers the type of `client.user` from what `users` returns.
 * @example
 * export default defineProof({
 *   users: async (client) => [{ headers: { authorization: `Bearer ${(await client.post<Login>('/login', me)).token}` }, note: '7' }],
 *   registers: [{
 *     name: 'a note',
 *     keys: (user) => [user.note],
 *     write: (client, key, text) => client.put(`/notes/${key}`, { text }),
 *     read: async (client, key) => (await client.get<Note>(`/notes/${key}`)).text,
 *   }],
 * })
 */
export function defineProof<User extends ProofUser>(proof: Proof<User>): Proof<User> {
  return proof
}

export const rateDefault = 3

/** The file of an app's proof, beside that of the app. */
export const proofFile = 'prove.ts'

/** The proof of an app without one: it answers. */
export function pagesAlone(pages: readonly string[]): Proof {
  return { users: async () => [{}], pages }
}

/** @throws PROOF_INVALID */
export function checkProof(proof: Proof | undefined, file: string): Proof {
  const invalid = (message: string) => new RungError('PROOF_INVALID', `${file} ${message}`)
  if (typeof proof?.users !== 'function') throw invalid('has no proof with "users" as its default export.')
  const { registers = [], collections = [], once = [], accounts, queue, rate = rateDefault } = proof
  if (registers.length + collections.length + once.length === 0 && !accounts && !queue)
    throw invalid('names nothing that is written. Add registers, collections, once, accounts or queue.')
  const names = [...registers, ...collections, ...once].map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw invalid(`has two things with the name "${twice}".`)
  if (!(rate >= rateDefault && rate <= 100))
    throw invalid(`has the rate ${rate}. It must be at least ${rateDefault}, and at most 100.`)
  return proof
}
