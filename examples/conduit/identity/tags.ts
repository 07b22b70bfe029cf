/** What kept answers depend on that show accounts: their names, since names are what they show. */
export const accountTag = (username: string) => `@identity/account:${username}`
/** Any account at all, for what shows too many to name them. */
export const everyAccount = '@identity/accounts'
