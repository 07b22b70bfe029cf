import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

interface Post {
  text: string
  key: string
}

/** A server that keeps what is posted. `answer` says with which status, and is asked for each. */
export async function openWebhook() {
  const posts: Post[] = []
  let waiting: (() => void)[] = []
  let answer: (post: Post) => number = () => 200
  const server = createServer(async (request: IncomingMessage, response) => {
    const post = { text: JSON.parse(await text(request)).text, key: String(request.headers['idempotency-key']) }
    const status = answer(post)
    if (status === 200) posts.push(post)
    response.writeHead(status).end('ok')
    for (const wake of waiting.splice(0)) wake()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    posts,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/services/the-secret`,
    answers(other: typeof answer) {
      answer = other
    },
    /** Resolves with all posts once there are so many. */
    async until(count: number): Promise<Post[]> {
      while (posts.length < count) await new Promise<void>((resolve) => waiting.push(resolve))
      return posts
    },
    reset() {
      posts.length = 0
      waiting = []
      answer = () => 200
    },
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
