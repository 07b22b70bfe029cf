/** What kept answers depend on that show accounts: their names, since names are what they show. */
export const accountTag = (username: string) => `@identity/account:${username}`
/** What an account shows of itself, by its number. */
export const profileTag = (accountId: number) => `profile:${accountId}`
/** Whom an account follows. */
export const followsTag = (accountId: number) => `follows:${accountId}`
/** Any account at all, for what shows too many to name them. */
export const everyAccount = '@identity/accounts'
