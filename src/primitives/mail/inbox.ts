import type { FastifyInstance, FastifyReply } from 'fastify'
import { RungError } from '../../kernel/errors.ts'
import { type Html, type HtmlValue, html, rawHtml } from '../../kernel/html.ts'
import { tokens } from '../../kernel/tokens.ts'
import { type ReadMessage, readMessage, withoutFrames } from './read-message.ts'

/** Mail that was written to files and not sent. */
export interface Inbox {
  /** Returns ids, the newest first. */
  list(limit: number): Promise<string[]>
  /** Returns the bytes of a mail, or `undefined` if there is no such mail. */
  read(id: string): Promise<Uint8Array | undefined>
}

export const inboxPath = '/-/mail'
const shownMax = 100

/** Returns a plugin with pages to read mail in development, without scripts: `await http.register(serveInbox(inbox))`. */
export function serveInbox(inbox: Inbox): (app: FastifyInstance) => Promise<void> {
  const hidden = { schema: { hide: true } }

  async function contentOf(id: string): Promise<Uint8Array> {
    const content = await inbox.read(id)
    if (!content) throw new RungError('HTTP_NOT_FOUND', 'There is no such mail.')
    return content
  }

  return async (app) => {
    app.get(inboxPath, hidden, async (_request, reply) => {
      const ids = await inbox.list(shownMax)
      const mails = await Promise.all(ids.map(async (id) => ({ id, content: await inbox.read(id) })))
      const rows = mails.flatMap(({ id, content }) => (content ? [row(id, readMessage(content))] : []))
      return sendPage(reply, 'Mail', [html`<h1>Mail</h1>`, rows.length > 0 ? listOf(rows) : nothing])
    })

    app.get<{ Params: { id: string } }>(`${inboxPath}/:id`, hidden, async (request, reply) => {
      const { id } = request.params
      const message = readMessage(await contentOf(id))
      return sendPage(reply, message.headers.get('subject') ?? '', oneMail(id, message))
    })

    // In a sandbox of its own, because the content of a mail must not reach the app's origin.
    app.get<{ Params: { id: string } }>(`${inboxPath}/:id/html`, hidden, async (request, reply) => {
      const { html: body = '' } = readMessage(await contentOf(request.params.id))
      return reply.headers(bodyHeaders).send(withoutFrames(body))
    })

    app.get<{ Params: { id: string } }>(`${inboxPath}/:id/source`, hidden, async (request, reply) => {
      const source = await contentOf(request.params.id)
      return reply.type('text/plain; charset=utf-8').send(Buffer.from(source))
    })
  }
}

const nothing = html`<p class="empty">No mail yet. Mail of the app is shown here and not delivered.</p>`

function row(id: string, { headers }: ReadMessage): Html {
  const cell = (name: string) => html`<td>${headers.get(name)}</td>`
  const link = html`<a href="${`${inboxPath}/${id}`}">${headers.get('subject') || '(no subject)'}</a>`
  return html`<tr><td>${link}</td>${cell('x-envelope-to')}${cell('from')}${cell('date')}</tr>`
}

function listOf(rows: readonly Html[]): Html {
  return html`<table class="list"><thead><tr><th>Subject</th><th>To</th><th>From</th><th>Date</th></tr></thead>
<tbody>${rows}</tbody></table>`
}

function oneMail(id: string, { headers, text, html: body }: ReadMessage): HtmlValue {
  const at = `${inboxPath}/${id}`
  const rows = [...headers].map(([name, value]) => html`<tr><th scope="row">${name}</th><td>${value}</td></tr>`)
  return [
    html`<p><a href="${inboxPath}">All mail</a> · <a href="${`${at}/source`}">Source</a></p>`,
    html`<h1>${headers.get('subject') || '(no subject)'}</h1><table class="headers">${rows}</table>`,
    body !== undefined && html`<h2>HTML</h2><iframe sandbox title="HTML" src="${`${at}/html`}"></iframe>`,
    html`<h2>Text</h2><pre tabindex="0">${text}</pre>`,
  ]
}

/** The content of a mail is drawn for a white page, also where all around it is dark. */
const style = `
body{margin:0;background:var(--ground);color:var(--ink);font:var(--text-m)/1.5 var(--font)}
main{max-width:64rem;margin:0 auto;padding:var(--space-5) var(--space-4) var(--space-6)}
h1{font-size:var(--text-xl);line-height:1.2;margin:0 0 var(--space-4)}h2{font-size:var(--text-l);margin:var(--space-5) 0 var(--space-2)}
a{color:var(--accent)}:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
table{width:100%;border-collapse:collapse;background:var(--surface);border:1px solid var(--line)}
td,th{text-align:left;padding:var(--space-2) var(--space-3);vertical-align:top;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{color:var(--quiet);font-weight:500}.list td:first-child{font-weight:600}
.headers th{width:12rem}
.empty{padding:var(--space-6);border:1px dashed var(--line);border-radius:var(--radius);color:var(--quiet);text-align:center}
iframe{width:100%;height:30rem;border:1px solid var(--line);background:white;color-scheme:light}
pre{margin:0;padding:var(--space-4);background:var(--surface);border:1px solid var(--line);font:var(--text-s)/1.5 var(--mono);white-space:pre-wrap;overflow-wrap:anywhere}
@media (max-width:40rem){table,tbody,tr,td,.headers th{display:block;width:auto}thead{display:none}
td,.headers th{border:0;padding:0 var(--space-3)}tr{padding:var(--space-2) 0;border-bottom:1px solid var(--line)}}`

const pageHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; frame-ancestors 'none'",
}

const bodyHeaders = {
  ...pageHeaders,
  'x-frame-options': 'SAMEORIGIN',
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: https:; frame-ancestors 'self'; sandbox",
}

function sendPage(reply: FastifyReply, title: string, content: HtmlValue): FastifyReply {
  const page = html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title || '(no subject)'}</title>
<style>${rawHtml(tokens() + style)}</style>
<main>${content}</main>
</html>
`
  return reply.headers(pageHeaders).send(String(page))
}
