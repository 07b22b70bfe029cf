import { cron, defineModule, handle, on } from 'rung'
import { Type } from 'typebox'
import { articleCalls } from '../articles/contract.ts'
import { ArticleDeleted, ArticleFavorited } from '../articles/events.ts'
import { CommentAdded } from '../comments/events.ts'
import { refuse } from '../errors.ts'
import { identityCalls } from '../identity/contract.ts'
import { AccountFollowed } from '../identity/events.ts'
import { Envelope, Errors, failures, Paging, Profile, pageMax, Page as TextPage } from '../schemas.ts'
import { onlySignedIn, signedIn } from '../viewer.ts'
import { deliverDigest, enqueueDue, findDigests, sendDigest } from './digest.ts'
import { forgetArticle, markRead, notify, pageOf } from './notifications.ts'
import { preferencesOf, setPreferences, unsubscribe } from './preferences.ts'
import { present } from './present.ts'
import { askPage, donePage, unsubscribeLinks, unsubscribePath } from './unsubscribe-link.ts'

const Notification = Type.Object({
  id: Type.Integer(),
  kind: Type.Union([Type.Literal('follow'), Type.Literal('comment'), Type.Literal('favorite')]),
  createdAt: Type.Unsafe<Date>({ type: 'string', format: 'date-time' }),
  read: Type.Boolean(),
  actor: Profile,
  article: Type.Union([Type.Object({ slug: Type.String(), title: Type.String() }), Type.Null()]),
  commentId: Type.Union([Type.Integer(), Type.Null()]),
})
const Many = Type.Object({
  notifications: Type.Array(Notification),
  notificationsCount: Type.Integer(),
  unreadCount: Type.Integer(),
})
const Read = Envelope('read', Type.Object({ upTo: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) }))
const Preferences = Envelope(
  'preferences',
  Type.Object({
    digest: Type.Union([Type.Literal('none'), Type.Literal('daily')]),
    timeZone: Type.String({ minLength: 1, maxLength: 64 }),
    digestHour: Type.Integer({ minimum: 0, maximum: 23 }),
  }),
)
const Token = Type.Object({ token: Type.String() })

/** What others did to me and mine, in a list and in a daily mail. */
export const notifications = defineModule({
  name: 'notifications',
  owner: 'community',
  migrations: new URL('./migrations/', import.meta.url),
  uses: { identity: identityCalls, articles: articleCalls },

  work: ({ data, mail, calls, acceptedSecrets }) => {
    const links = unsubscribeLinks(() => acceptedSecrets('unsubscribe'))
    const parts = {
      data,
      mail,
      present: (rows: Parameters<typeof present>[1]) => present(calls, rows, null),
      addressOf: (accountId: number) => calls.identity.addressOf({ accountId }),
      unsubscribeUrl: links.url,
    }
    return [
      on(AccountFollowed, ({ payload: { followerId, followeeId } }, tx) =>
        notify(tx, { accountId: followeeId, kind: 'follow', actorId: followerId }),
      ),
      on(CommentAdded, ({ payload: { articleAuthorId, authorId, commentId, articleId } }, tx) =>
        notify(tx, {
          accountId: articleAuthorId,
          kind: 'comment',
          actorId: authorId,
          subjectId: commentId,
          articleId,
        }),
      ),
      on(ArticleFavorited, ({ payload: { authorId, accountId, articleId } }, tx) =>
        notify(tx, {
          accountId: authorId,
          kind: 'favorite',
          actorId: accountId,
          subjectId: articleId,
          articleId,
        }),
      ),
      on(ArticleDeleted, ({ payload }, tx) => forgetArticle(tx, payload.articleId)),
      cron('* * * * *', findDigests, {}),
      handle(findDigests, () => enqueueDue(data)),
      handle(sendDigest, (input, run) => deliverDigest(parts, input, run)),
    ]
  },

  routes(http, { data, calls, acceptedSecrets }) {
    const who = calls.identity
    const links = unsubscribeLinks(() => acceptedSecrets('unsubscribe'))
    const tags = ['Notifications']
    const security = [{ token: [] }]
    const refusals = { 401: Errors, ...failures }
    const preValidation = onlySignedIn(who)

    http.get(
      '/api/notifications',
      {
        schema: {
          operationId: 'GetNotifications',
          tags,
          security,
          querystring: Type.Object(Paging),
          response: { 200: Many, ...refusals },
        },
        preValidation,
      },
      async (request) => {
        const { limit, offset } = request.query
        const viewer = await signedIn(request, who)
        const { rows, total, unread } = await pageOf(data, viewer, { limit: Math.min(limit, pageMax), offset })
        const shown = await present(calls, rows, viewer)
        return { notifications: shown, notificationsCount: total, unreadCount: unread }
      },
    )

    http.post(
      '/api/notifications/read',
      {
        schema: {
          operationId: 'ReadNotifications',
          tags,
          security,
          body: Read,
          response: { 200: Type.Object({ unreadCount: Type.Integer() }), ...refusals },
        },
        preValidation,
      },
      async (request) => ({
        unreadCount: await markRead(data, await signedIn(request, who), request.body.read.upTo),
      }),
    )

    http.get(
      '/api/notifications/preferences',
      {
        schema: {
          operationId: 'GetNotificationPreferences',
          tags,
          security,
          response: { 200: Preferences, ...refusals },
        },
        preValidation,
      },
      async (request) => ({ preferences: await preferencesOf(data, await signedIn(request, who)) }),
    )

    http.put(
      '/api/notifications/preferences',
      {
        schema: {
          operationId: 'UpdateNotificationPreferences',
          tags,
          security,
          body: Preferences,
          response: { 200: Preferences, ...refusals },
        },
        preValidation,
      },
      async (request) => ({
        preferences: await setPreferences(data, await signedIn(request, who), request.body.preferences),
      }),
    )

    // What the button of a mail program sends; everything is in the URL.
    const form = /^(application\/x-www-form-urlencoded|multipart\/form-data)/
    http.addContentTypeParser(form, { parseAs: 'string', bodyLimit: 10_000 }, (_request, _body, done) => done(null))
    const accountOf = (token: string) => {
      const accountId = links.accountOf(token)
      if (accountId === undefined) throw refuse('HTTP_NOT_FOUND', 'link', 'is not one of ours')
      return accountId
    }
    const ofLink = { tags, params: Token, response: { 200: TextPage, 404: Errors, ...failures } }
    http.get(
      `${unsubscribePath}/:token`,
      { schema: { operationId: 'ShowUnsubscribe', ...ofLink } },
      async (request, reply) => {
        accountOf(request.params.token)
        return reply.type('text/html; charset=utf-8').send(askPage())
      },
    )
    http.post(
      `${unsubscribePath}/:token`,
      { schema: { operationId: 'Unsubscribe', ...ofLink } },
      async (request, reply) => {
        await unsubscribe(data, accountOf(request.params.token))
        return reply.type('text/html; charset=utf-8').send(donePage())
      },
    )
  },
})
