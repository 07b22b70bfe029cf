/**
 * What JavaScript adds: a form with `data-part` changes that part of the page and leaves the rest where it is; tags become a list from
 * which each can be removed; a file that is too large is told before it is sent; a part with `data-again` is looked at again until it is
 * done; days that are near are told as "3 hours ago"; an article that is read is reported, once in a tab. Without it everything else
 * works as well.
 */
document.addEventListener('submit', (event) => {
  const form = event.target
  if (event.defaultPrevented || !(form instanceof HTMLFormElement)) return
  const { part } = form.dataset
  if (form.hasAttribute('aria-busy')) return event.preventDefault() // sent already
  if (part === undefined) return
  event.preventDefault()
  exchange(form, part).catch(() => {
    form.removeAttribute('aria-busy')
    form.submit() // the browser tells what is wrong
  })
})

/**
 * Sends the form, and takes the part out of the page as it is then. `keepalive`: the form is sent even if its sender goes to another page at
 * once; a redirect is not followed, since only its page matters.
 */
async function exchange(form, part) {
  form.setAttribute('aria-busy', 'true')
  const body = new URLSearchParams(new FormData(form))
  const sent = await fetch(form.action, { method: 'POST', body, keepalive: true, redirect: 'manual' })
  const isDone = sent.type === 'opaqueredirect'
  const answer = isDone ? await fetch(location.href).catch(() => undefined) : sent
  if (!answer) return location.reload() // it is done, and must not be sent again
  const next = new DOMParser().parseFromString(await answer.text(), 'text/html')
  const [now, then] = [document.getElementById(part), next.getElementById(part)]
  if (!isDone) document.documentElement.replaceWith(next.documentElement)
  else if (!now || !then) location.reload()
  else {
    const hadFocus = now.contains(document.activeElement)
    now.replaceWith(then)
    tellTimes(then)
    if (hadFocus) then.querySelector('button, textarea')?.focus()
  }
}

document.addEventListener('change', ({ target }) => {
  const { bytesMax } = target.dataset
  if (bytesMax === undefined) return
  const isTooLarge = [...target.files].some(({ size }) => size > Number(bytesMax))
  target.setCustomValidity(isTooLarge ? 'The file is too large.' : '')
  target.reportValidity()
})

const tagsIn = (text) =>
  text
    .split(',')
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '')

/** The field then has the tag that is being written, and the list beside it those that are. The form sends both as one text. */
function listTags(list) {
  const field = document.getElementById(list.dataset.tags)
  const listed = () => [...list.children].map((item) => item.firstChild.data)
  const add = () => {
    for (const tag of tagsIn(field.value)) if (!listed().includes(tag)) list.append(itemOf(tag))
    field.value = ''
  }
  field.addEventListener('keydown', (event) => {
    if (event.isComposing || (event.key !== 'Enter' && event.key !== ',')) return
    event.preventDefault()
    add()
  })
  field.form.addEventListener('formdata', ({ formData }) =>
    formData.set(field.name, [...listed(), ...tagsIn(field.value)].join(', ')),
  )
  add()

  function itemOf(tag) {
    const item = document.createElement('li')
    const remove = document.createElement('button')
    item.className = 'tag-default tag-pill'
    item.append(tag, remove)
    remove.type = 'button'
    remove.ariaLabel = `Remove ${tag}`
    remove.append(document.createElement('i'))
    remove.addEventListener('click', () => {
      item.remove()
      field.focus()
    })
    return item
  }
}

const againMsMax = 30_000

async function lookAgain(waitMs) {
  const now = document.querySelector('[data-again]')
  if (!now) return
  const answer = await fetch(location.pathname).catch(() => undefined) // offline: another time
  const page = new DOMParser().parseFromString((await answer?.text()) ?? '', 'text/html')
  const then = page.getElementById(now.id)
  // A file that was chosen meanwhile stays chosen.
  const isChosen = [...now.querySelectorAll('input')].some(({ value }) => value !== '')
  if (then && !then.matches('[data-again]') && !isChosen) now.replaceWith(then)
  lookAgainIn(Math.min(againMsMax, 2 * waitMs))
}

function lookAgainIn(waitMs) {
  setTimeout(() => lookAgain(waitMs), waitMs)
}

const steps = [
  [60, 'second'],
  [60, 'minute'],
  [24, 'hour'],
  [7, 'day'],
]

function tellTimes(root) {
  const words = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: 'auto' })
  for (const time of root.querySelectorAll('time')) {
    let ago = (Date.parse(time.dateTime) - Date.now()) / 1000
    time.title = new Date(time.dateTime).toLocaleString()
    for (const [size, unit] of steps) {
      if (Math.abs(ago) < size) {
        time.textContent = words.format(Math.round(ago), unit)
        break
      }
      ago /= size
    }
  }
}

/** A hidden page (in another tab, or rendered ahead) is not read before it is shown. */
function reportView() {
  const views = document.querySelector('[data-views]')?.dataset.views
  if (!views || document.visibilityState === 'hidden' || sessionStorage.getItem(views)) return
  sessionStorage.setItem(views, 'reported')
  navigator.sendBeacon(views)
}

tellTimes(document)
for (const list of document.querySelectorAll('[data-tags]')) listTags(list)
lookAgainIn(500)
reportView()
document.addEventListener('visibilitychange', reportView)
// A page from the browser's own memory is older than what was done since.
addEventListener('pageshow', (event) => event.persisted && location.reload())
