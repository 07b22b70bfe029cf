import type { FastifyInstance, FastifyReply } from 'fastify'
import { RungError } from '../../kernel/errors.ts'
import { type Html, type HtmlValue, html } from '../../kernel/html.ts'
import { type ReadMessage, readMessage } from './read-message.ts'

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
      return sendPage(reply, 'Mail', [html`<h1>Mail</h1>`, rows.length > 0 ? html`<table>${rows}</table>` : nothing])
    })

    app.get<{ Params: { id: string } }>(`${inboxPath}/:id`, hidden, async (request, reply) => {
      const { id } = request.params
      const message = readMessage(await contentOf(id))
      return sendPage(reply, message.headers.get('subject') ?? '', oneMail(id, message))
    })

    // In a sandbox of its own, because the content of a mail must not reach the app's origin.
    app.get<{ Params: { id: string } }>(`${inboxPath}/:id/html`, hidden, async (request, reply) => {
      const { html: body = '' } = readMessage(await contentOf(request.params.id))
      return reply.headers(bodyHeaders).send(body)
    })

    app.get<{ Params: { id: string } }>(`${inboxPath}/:id/source`, hidden, async (request, reply) => {
      const source = await contentOf(request.params.id)
      return reply.type('text/plain; charset=utf-8').send(Buffer.from(source))
    })
  }
}

const nothing = html`<p>No mail yet. Mail of the app is shown here and not delivered.</p>`

function row(id: string, { headers }: ReadMessage): Html {
  const cells = [headers.get('date'), headers.get('x-envelope-to'), headers.get('from')]
  const link = html`<a href="${`${inboxPath}/${id}`}">${headers.get('subject') || '(no subject)'}</a>`
  return html`<tr><td>${link}</td>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`
}

function oneMail(id: string, { headers, text, html: body }: ReadMessage): HtmlValue {
  const at = `${inboxPath}/${id}`
  const rows = [...headers].map(([name, value]) => html`<tr><th>${name}</th><td>${value}</td></tr>`)
  return [
    html`<p><a href="${inboxPath}">All mail</a> · <a href="${`${at}/source`}">Source</a></p>`,
    html`<h1>${headers.get('subject')}</h1><table>${rows}</table>`,
    body !== undefined && html`<h2>HTML</h2><iframe sandbox title="HTML" src="${`${at}/html`}"></iframe>`,
    html`<h2>Text</h2><pre>${text}</pre>`,
  ]
}

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}
iframe{width:100%;height:30rem;border:1px solid #999}pre{white-space:pre-wrap}`

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
  const head = html`<meta charset="utf-8"><title>${title}</title>`
  const page = `<!doctype html>${head}<style>${style}</style>${html`${content}`}`
  return reply.headers(pageHeaders).send(page)
}
