/**
 * Where the app is reached from outside, for links that leave it: `CONDUIT_URL=https://conduit.example.org`. Without it links
 * in pages are paths, and those in mails lead to this machine.
 */
const origin = process.env.CONDUIT_URL?.replace(/\/+$/, '')

/** For an answer of the app itself. */
export const shownUrl = (path: string): string => (origin ?? '') + path

/** For a mail; https, as one-click unsubscribing asks for it (RFC 8058). */
export const mailedUrl = (path: string): string => (origin ?? 'https://localhost:3000') + path
