import { Readable } from 'node:stream'
import { cron, defineApp, defineJob, defineModule, handle, html } from 'rung'
import { Type } from 'typebox'

const tidy = defineJob('post.tidy', Type.Object({}), { attempts: 1 })
const sweep = defineJob('post.sweep', Type.Object({}))
const copy = defineJob('post.copy', Type.Object({}), { attempts: 1 })

/** A picture of one pixel. */
const pixel = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64')

/** What a mail may do to those who look at it. */
const poison = html`<h1>Your order</h1>
<p style="color: #0b6b52">It is on its way.</p>
<img src="https://tracker.example/seen.gif" alt="">
<img src="x" onerror="parent.document.title = 'taken'">
<script>parent.document.title = 'taken'; fetch('https://tracker.example/ran')</script>
<IFRAME src="https://tracker.example/framed"></IFRAME><object data="https://tracker.example/object"></object>
<form action="/do/kill" method="post"><input name="part" value="app-1"><button>Open</button></form>
<a href="javascript:parent.document.title='taken'" target="_top">a link</a>`

/** For the pages of the console: slow statements, N+1, crons, jobs, mail and files. */
export const post = defineModule({
  name: 'post',
  owner: 'tests',
  migrations: new URL('./migrations/', import.meta.url),
  work: () => [
    handle(tidy, async () => {
      throw new Error('the letters are stuck')
    }),
    handle(copy, async (_input, { progress, signal }) => {
      progress(0.4, 'of the letters')
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    }),
    handle(sweep, () => {}),
    cron('0 4 * * *', tidy, {}, { name: 'tidy at night', timeZone: 'Europe/Berlin' }),
    cron('* * * * * *', sweep, {}, { name: 'sweep' }),
  ],
  routes(http, { data, files, mail }) {
    http.get('/slow', async () => data.read((sql) => sql`select id, text, pg_sleep(0.12) from post.letter limit 1`))
    http.get('/each', async () => {
      for (let id = 1; id <= 12; id += 1) await data.read((sql) => sql`select text from post.letter where id = ${id}`)
      return 'ok'
    })
    http.post('/send', async () => {
      await mail.send({ to: 'ann@example.org', subject: 'Your order', text: 'It is on its way.', html: poison })
      await mail.send({ to: 'bob@example.org', subject: 'Only <b>text</b>', text: 'Nothing else.' })
      await files.put('pictures/pixel.gif', Readable.from([pixel]))
      await files.put('drawing.svg', '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')
      return 'ok'
    })
    http.post('/tidy', async () => data.write(async (tx) => ({ id: await tx.enqueue(tidy, {}) })))
    http.post('/copy', async () => data.write(async (tx) => ({ id: await tx.enqueue(copy, {}) })))
  },
})

export default defineApp({ name: 'post', modules: [post] })
