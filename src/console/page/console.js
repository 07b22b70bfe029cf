import { endUnseenCharts } from './chart.js'
import { ago, badge, h, link, panel, shown } from './dom.js'
import { pages } from './pages.js'
import { stripOf, stripViews } from './strip.js'

/**
 * The frame of the console: navigation, the status strip, and one page at a time. A page is
 * `{ path, title, key, views, draw(readings, tools) }`: `views` are the names of read models, with their query if they have one, and `draw`
 * returns what is shown. It is called again whenever one of them changes, but not while text on the page is selected.
 */
const about = await enter()
const readings = new Map()
/** Pages that have begun a change which is in progress. Their buttons are disabled. */
const changing = new Set()
let [live, page, drawing, isOld] = [undefined, undefined, false, true]

const nowhere = {
  title: 'There is no such page',
  views: () => [],
  draw: () => panel('Nothing is at this address', h('p', {}, 'The first page is ', link('/', 'the ladder'), '.')),
}

const main = h('main', { id: 'main', tabindex: -1 })
const strip = h('ul', {})
const connection = h('span.connection', { role: 'status' })
const said = h('p.said', { role: 'status', 'aria-live': 'polite' })
const links = new Map(pages.map((one) => [one, h('a', { href: one.path, 'data-to': one.path }, one.title)]))

document.body.append(
  h('a.skip', { href: '#main' }, 'To the page'),
  h(
    'header',
    {},
    h('a.brand', { href: '/', 'data-to': '/' }, mark(), h('span', {}, about.app)),
    h('nav', { 'aria-label': 'Pages' }, h('ul', {}, ...pages.map((one) => h('li', {}, links.get(one))))),
    h('div.foot', {}, connection, about.acts ? badge('warn', 'may change things') : badge('plain', 'only shows')),
  ),
  h('aside', { 'aria-label': 'Status' }, strip, said),
  main,
  keysDialog(),
)

/** The token of the address stays here for this address and its port alone; a cookie would go to all ports. */
function token() {
  return localStorage.getItem('token') ?? ''
}

async function enter() {
  const address = new URL(location.href)
  const given = address.searchParams.get('token')
  if (given !== null) {
    localStorage.setItem('token', given)
    address.searchParams.delete('token')
    history.replaceState(null, '', address)
  }
  const answer = await fetch('/about', { headers: { authorization: `Bearer ${token()}` } })
  if (answer.ok) return answer.json()
  document.body.append(h('main', {}, h('section.panel', {}, h('h1', {}, 'No entry'), h('p', {}, await answer.text()))))
  return new Promise(() => {}) // nothing else is drawn
}

function mark() {
  return h(
    'svg',
    { viewBox: '0 0 32 32', width: 22, height: 22, 'aria-hidden': 'true' },
    h('path', { d: 'M10 4v24M22 4v24M10 10h12M10 16h12M10 22h12', class: 'mark' }),
  )
}

const tools = {
  app: about.app,
  acts: about.acts,
  /** Goes to another page, or to the same one with another query. */
  go,
  query: () => new URLSearchParams(location.search),
  /** The address of content of others: in a frame, or as a picture. */
  content: (name, query) => `/content/${name}?${new URLSearchParams({ ...query, pass: about.passes.content })}`,
  /** Makes a change, says what became of it, and returns whether it was made. */
  async act(name, input, question) {
    if (question && !confirm(question)) return false
    getSelection().removeAllRanges() // the page shall show what comes of it
    const [changed, button] = [page, document.activeElement?.id]
    changing.add(changed)
    disable()
    const what = textOf(name, input)
    said.textContent = `Working: ${what} …`
    said.className = 'said'
    const answer = await fetch(`/do/${name}`, {
      method: 'POST',
      keepalive: true, // it goes on when the page is left
      headers: { authorization: `Bearer ${token()}`, 'content-type': 'application/json' },
      body: JSON.stringify(input),
    }).catch((error) => ({ ok: false, json: async () => ({ error: { message: error.message } }) }))
    const { error } = await answer.json().catch(() => ({ error: { message: 'The console has not answered.' } }))
    said.textContent = error ? error.message : `Done: ${what}`
    said.className = error ? 'said bad' : 'said'
    changing.delete(changed)
    isOld = true
    draw()
    if (button && document.activeElement === document.body) document.getElementById(button)?.focus()
    return !error
  },
}

/** `scale web=3`, or the value alone where the name of the change says what it is: `climb 10k`. */
function textOf(name, input) {
  const named = name === 'scale' ? Object.entries(input).map((entry) => entry.join('=')) : Object.values(input)
  return [name.replaceAll('-', ' '), ...named].join(' ')
}

/** Listens to what the strip and the page need, while the page is seen. */
function listen() {
  live?.close()
  if (document.hidden) return
  const wanted = [...new Set([...stripViews, ...page.views(tools.query())])]
  for (const name of readings.keys()) if (!wanted.includes(name)) readings.delete(name)
  live = new EventSource(
    `/live?pass=${about.passes.live}&${wanted.map((one) => `view=${encodeURIComponent(one)}`).join('&')}`,
  )
  live.onopen = () => {
    connection.textContent = 'live'
    connection.className = 'connection good'
  }
  live.onerror = () => {
    connection.textContent = 'the console is away'
    connection.className = 'connection bad'
  }
  live.onmessage = ({ data }) => {
    const reading = JSON.parse(data)
    readings.set(reading.name, reading)
    isOld ||= page.views(tools.query()).some((one) => one.split('?')[0] === reading.name)
    drawSoon()
  }
}

function disable() {
  for (const button of main.querySelectorAll('button')) button.disabled = true
}

function drawSoon() {
  if (!drawing) requestAnimationFrame(draw)
  drawing = true
}

function isSelecting() {
  const selection = getSelection()
  return !selection.isCollapsed && main.contains(selection.anchorNode)
}

function draw() {
  drawing = false
  const lines = stripOf(readings)
  strip.replaceChildren(
    ...lines.map(({ level, text, to }) =>
      h('li', {}, h(`a.${level}`, { href: to, 'data-to': to }, h('i', { 'aria-hidden': 'true' }), text)),
    ),
  )
  if (!isOld || isSelecting()) return
  isOld = false
  // The focus and the places to which tables were scrolled stay.
  const focused = main.contains(document.activeElement) ? document.activeElement?.id : ''
  const scrolled = [...main.querySelectorAll('.scroll')].map(({ scrollLeft }) => scrollLeft)
  main.replaceChildren(...shown([h('h1', {}, page.title), page.draw(readings, tools)]))
  if (changing.has(page)) disable()
  main.querySelectorAll('.scroll').forEach((one, index) => {
    one.scrollLeft = scrolled[index] ?? 0
  })
  endUnseenCharts()
  if (focused) document.getElementById(focused)?.focus()
}

function go(to, { replace = false } = {}) {
  history[replace ? 'replaceState' : 'pushState'](null, '', to)
  show()
  main.focus({ preventScroll: true })
  scrollTo(0, 0)
}

function show() {
  page = pages.find(({ path }) => path === location.pathname) ?? nowhere
  document.title = `${page.title} · ${about.app}`
  for (const [one, link] of links) {
    if (one === page) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  links.get(page)?.scrollIntoView({ block: 'nearest', inline: 'center' })
  listen()
  getSelection().removeAllRanges()
  isOld = true
  draw()
}

function keysDialog() {
  const rows = pages.map(({ key, title }) =>
    h('tr', {}, h('th', { scope: 'row' }, h('kbd', {}, 'g'), ' ', h('kbd', {}, key)), h('td', {}, title)),
  )
  return h(
    'dialog',
    { id: 'keys', 'aria-labelledby': 'keys-title' },
    h('h2', { id: 'keys-title' }, 'Keys'),
    h(
      'table',
      {},
      h('tbody', {}, ...rows, h('tr', {}, h('th', { scope: 'row' }, h('kbd', {}, '?')), h('td', {}, 'this list'))),
    ),
    h('form', { method: 'dialog' }, h('button', {}, 'Close')),
  )
}

let beganWithG = 0
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return
  if (event.key === '?') return document.getElementById('keys').showModal()
  if (event.key === 'g') {
    beganWithG = event.timeStamp
    return
  }
  const found = event.timeStamp - beganWithG < 1500 && pages.find(({ key }) => key === event.key)
  beganWithG = 0
  if (found) go(found.path)
})
addEventListener('click', (event) => {
  const link = event.target.closest?.('a[data-to]')
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return
  event.preventDefault()
  go(link.getAttribute('href'))
})
addEventListener('popstate', show)
document.addEventListener('visibilitychange', listen)
document.addEventListener('selectionchange', () => {
  if (isOld && !isSelecting()) drawSoon()
})
setInterval(() => {
  for (const time of document.querySelectorAll('time[datetime]')) time.textContent = ago(time.dateTime)
}, 5_000)
show()
