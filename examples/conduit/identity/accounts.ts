import { type Data, isRungError, type SqlTag, sql } from 'rung'
import { refuse } from '../errors.ts'
import { checkPassword, hashPassword } from './passwords.ts'

export interface Account {
  id: number
  username: string
  email: string
  bio: string | null
  image: string | null
}

export interface Changes {
  username?: string | undefined
  email?: string | undefined
  password?: string | undefined
  bio?: string | null | undefined
  image?: string | null | undefined
}

const columns = sql`id, username, email, bio, image`

/** Empty text means "none". */
function orNull(text: string | null): string | null {
  return text === null || text.trim() === '' ? null : text
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
  const taken = await data.read((sql) => findTaken(sql, user))
  if (taken) throw refuse('HTTP_CONFLICT', taken, 'has already been taken') // before the costly hash
  const passwordHash = await hashPassword(user.password)
  const [account] = await data
    .write(
      (tx) => tx<Account>`insert into identity.account (username, email, password_hash)
        values (${user.username}, ${user.email}, ${passwordHash}) returning ${columns}`,
    )
    .catch(explainTaken)
  return account!
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

export async function updateAccount(data: Data, id: number, changes: Changes): Promise<Account> {
  const set = [sql`updated_at = now()`]
  if (changes.username !== undefined) set.push(sql`username = ${changes.username}`)
  if (changes.email !== undefined) set.push(sql`email = ${changes.email}`)
  if (changes.bio !== undefined) set.push(sql`bio = ${orNull(changes.bio)}`)
  if (changes.image !== undefined) set.push(sql`image = ${orNull(changes.image)}`)
  if (changes.password !== undefined) set.push(sql`password_hash = ${await hashPassword(changes.password)}`)
  const [account] = await data
    .write((tx) => tx<Account>`update identity.account set ${sql.join(set)} where id = ${id} returning ${columns}`)
    .catch(explainTaken)
  if (!account) throw refuse('HTTP_UNAUTHORIZED', 'token', 'is invalid')
  return account
}
