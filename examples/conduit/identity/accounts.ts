import { type Data, isRungError, type Sessions, type Sql, type SqlTag, sql, type Tx } from 'rung'
import { refuse } from '../errors.ts'
import { tokensTag } from './authentication.ts'
import { AccountChanged, AccountRegistered, accountKey } from './events.ts'
import { checkPassword, hashPassword } from './passwords.ts'
import { accountTag, everyAccount, profileTag } from './tags.ts'

export interface Account {
  id: number
  username: string
  email: string
  bio: string | null
  image: string | null
  /** Of its tokens. */
  generation: number
}

export interface Changes {
  username?: string | undefined
  email?: string | undefined
  password?: string | undefined
  /** The one that it has: needed for a new one, unless its owner has just shown it. */
  currentPassword?: string | undefined
  bio?: string | null | undefined
  image?: string | null | undefined
}

const columns = sql`account.id, account.username, account.email, account.bio, account.image, account.token_generation as generation`

/** What others see of an account. */
const seen = ({ id, username, bio, image }: Account) => ({ accountId: id, username, bio, image })

/** Empty text means "none". */
function orNull(text: string | null): string | null {
  return text === null || text.trim() === '' ? null : text
}

/** Control and format characters, and the separators of lines and paragraphs: nobody sees them, so two names would look the same. */
const notInNames = /[/\\\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

/**
 * Refuses a name that looks like another, or is no part of an address.
 * @throws HTTP_VALIDATION
 */
function checkUsername(name: string): void {
  if (!notInNames.test(name) && name === name.trim() && !/^\.*$/.test(name)) return
  const rule = 'must have no slashes, no invisible characters and no white space at its ends, and must not be only dots'
  throw refuse('HTTP_VALIDATION', 'username', rule)
}

/** Which of the two unique values was taken. */
function explainTaken(error: unknown): never {
  const constraint = isRungError(error, 'DATA_UNIQUE') ? error.facts.constraint : undefined
  if (constraint === 'account_username_key') throw refuse('HTTP_CONFLICT', 'username', 'has already been taken')
  if (constraint === 'account_email_key') throw refuse('HTTP_CONFLICT', 'email', 'has already been taken')
  throw error
}

export async function register(
  data: Data,
  user: { username: string; email: string; password: string },
): Promise<Account> {
  checkUsername(user.username)
  const taken = await data.read((sql) => findTaken(sql, user))
  if (taken) throw refuse('HTTP_CONFLICT', taken, 'has already been taken') // before the costly hash
  const passwordHash = await hashPassword(user.password)
  return data
    .write(async (tx) => {
      const [account] = await tx<Account>`insert into identity.account (username, email, password_hash)
        values (${user.username}, ${user.email}, ${passwordHash}) returning ${columns}`
      tx.publish(AccountRegistered, seen(account!), { key: accountKey(account!.id) })
      tx.invalidate([accountTag(account!.username)])
      return account!
    })
    .catch(explainTaken)
}

async function findTaken(
  sql: SqlTag,
  { username, email }: { username: string; email: string },
): Promise<string | undefined> {
  const [row] = await sql<{ username: boolean; email: boolean }>`
    select exists (select from identity.account where username = ${username}) as username,
      exists (select from identity.account where lower(email) = lower(${email})) as email`
  return row!.username ? 'username' : row!.email ? 'email' : undefined
}

export async function logIn(data: Data, { email, password }: { email: string; password: string }): Promise<Account> {
  const [row] = await data.read(
    (sql) => sql<Account & { password_hash: string }>`
      select ${columns}, password_hash from identity.account where lower(email) = lower(${email})`,
  )
  if (!(await checkPassword(row?.password_hash, password))) {
    throw refuse('HTTP_UNAUTHORIZED', 'credentials', 'invalid')
  }
  return row!
}

export async function findAccount(data: Data, id: number): Promise<Account> {
  const [account] = await data.read((sql) => sql<Account>`select ${columns} from identity.account where id = ${id}`)
  if (!account) throw refuse('HTTP_UNAUTHORIZED', 'token', 'is invalid')
  return account
}

/** Where mail to the account goes. */
export async function addressOf(data: Data, id: number): Promise<Pick<Account, 'email' | 'username'> | null> {
  const [row] = await data.read(
    (sql) => sql<Pick<Account, 'email' | 'username'>>`select email, username from identity.account where id = ${id}`,
  )
  return row ?? null
}

/** A new password ends all sessions and tokens: whoever knew the old one is out. */
export async function updateAccount(
  { data, sessions }: { data: Data; sessions: Sessions },
  id: number,
  changes: Changes,
  { isFresh }: { isFresh: boolean } = { isFresh: false },
): Promise<Account> {
  if (changes.username !== undefined) checkUsername(changes.username)
  const set = [sql`updated_at = now()`]
  if (changes.username !== undefined) set.push(sql`username = ${changes.username}`)
  if (changes.email !== undefined) set.push(sql`email = ${changes.email}`)
  if (changes.bio !== undefined) set.push(sql`bio = ${orNull(changes.bio)}`)
  if (changes.image !== undefined) set.push(sql`image = ${orNull(changes.image)}`)
  const { password, currentPassword } = changes
  if (password !== undefined) {
    if (currentPassword !== undefined || !isFresh) await checkCurrent(data, id, currentPassword)
    set.push(sql`password_hash = ${await hashPassword(password)}, token_generation = token_generation + 1`)
    await sessions.revokeAll(String(id)) // before, so that a crash after the commit leaves none
  }
  const account = await data
    .write((tx) => {
      if (password !== undefined) tx.invalidate([tokensTag(id)])
      return change(tx, id, set)
    })
    .catch(explainTaken)
  if (!account) throw refuse('HTTP_UNAUTHORIZED', 'token', 'is invalid')
  if (password !== undefined) await sessions.revokeAll(String(id)) // and those that began in between
  return account
}

async function checkCurrent(data: Data, id: number, password: string | undefined): Promise<void> {
  if (password === undefined) throw refuse('HTTP_VALIDATION', 'currentPassword', "can't be blank")
  const [row] = await data.read(
    (sql) => sql<{ password_hash: string }>`select password_hash from identity.account where id = ${id}`,
  )
  if (!(await checkPassword(row?.password_hash, password)))
    throw refuse('HTTP_FORBIDDEN', 'currentPassword', 'is wrong')
}

/** Whoever has chosen another picture since keeps that one when the avatar goes. */
export async function setAvatar(
  tx: Tx,
  { accountId, image, replaces }: { accountId: number; image: string | null; replaces: string | null },
): Promise<void> {
  if (image === null) {
    const [row] = await tx<{ image: string | null }>`
      select image from identity.account where id = ${accountId} for update`
    if (!row || row.image !== replaces) return
  }
  await change(tx, accountId, [sql`image = ${image}`, sql`updated_at = now()`])
}

/** Tells of it when others see another account than before. */
async function change(tx: Tx, id: number, set: readonly Sql[]): Promise<Account | undefined> {
  const [row] = await tx<Account & { was: string; changed: boolean }>`
    update identity.account set ${sql.join(set)}
    from (select id, username, bio, image from identity.account where id = ${id} for update) old
    where account.id = old.id
    returning ${columns}, old.username as was,
      (account.username, account.bio, account.image) is distinct from (old.username, old.bio, old.image) as changed`
  if (!row) return undefined
  const { was, changed, ...account } = row
  if (changed) {
    tx.publish(AccountChanged, seen(account), { key: accountKey(id) })
    tx.invalidate([profileTag(id), accountTag(was), accountTag(account.username), everyAccount])
  }
  return account
}
