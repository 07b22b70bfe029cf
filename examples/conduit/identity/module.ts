import { defineModule, on } from 'rung'
import { AvatarChanged } from '../avatars/events.ts'
import { Envelope, Errors, failures } from '../schemas.ts'
import { type Authenticate, onlySignedIn, signedIn, viewerOf } from '../viewer.ts'
import { type Account, findAccount, logIn, register, setAvatar, updateAccount } from './accounts.ts'
import { identityCalls } from './calls.ts'
import { follow, type ProfileRow, profileNamed, unfollow } from './profiles.ts'
import { Login, Name, NewUser, OneProfile, OneUser, UserChanges } from './shapes.ts'
import { createTokens, type Tokens } from './tokens.ts'

/** Users, login, profiles and who follows whom. */
export const identity = defineModule({
  name: 'identity',
  owner: 'accounts',
  migrations: new URL('./migrations/', import.meta.url),

  calls: ({ data, secret }) => identityCalls(data, createTokens(secret('tokens'))),

  work: () => [on(AvatarChanged, ({ payload }, tx) => setAvatar(tx, payload))],

  identify: ({ secret }) => {
    const self = ownAuthentication(createTokens(secret('tokens')))
    return async (request) => {
      const viewer = await viewerOf(request, self)
      return viewer === null ? undefined : { id: String(viewer) }
    }
  },

  routes(http, { data, secret }) {
    const tokens = createTokens(secret('tokens'))
    const self = ownAuthentication(tokens)
    const asUser = async ({ username, email, bio, image, id }: Account) => ({
      user: { username, email, bio, image, token: await tokens.issue(id) },
    })
    const asProfile = ({ username, bio, image, following }: ProfileRow) => ({
      profile: { username, bio, image, following },
    })
    const security = [{ token: [] }]

    http.post(
      '/api/users',
      {
        schema: {
          operationId: 'CreateUser',
          tags: ['User and Authentication'],
          body: Envelope('user', NewUser),
          response: { 201: OneUser, 409: Errors, ...failures },
        },
      },
      async (request, reply) => reply.status(201).send(await asUser(await register(data, request.body.user))),
    )

    http.post(
      '/api/users/login',
      {
        config: { login: ({ body }) => body.user.email },
        schema: {
          operationId: 'Login',
          tags: ['User and Authentication'],
          body: Envelope('user', Login),
          response: { 200: OneUser, 401: Errors, ...failures },
        },
      },
      async (request) => asUser(await logIn(data, request.body.user)),
    )

    http.get(
      '/api/user',
      {
        schema: {
          operationId: 'GetCurrentUser',
          tags: ['User and Authentication'],
          security,
          response: { 200: OneUser, 401: Errors, ...failures },
        },
      },
      async (request) => asUser(await findAccount(data, await signedIn(request, self))),
    )

    http.put(
      '/api/user',
      {
        schema: {
          operationId: 'UpdateCurrentUser',
          tags: ['User and Authentication'],
          security,
          body: Envelope('user', UserChanges),
          response: { 200: OneUser, 401: Errors, 409: Errors, ...failures },
        },
        preValidation: onlySignedIn(self),
      },
      async (request) => asUser(await updateAccount(data, await signedIn(request, self), request.body.user)),
    )

    http.get(
      '/api/profiles/:username',
      {
        schema: {
          operationId: 'GetProfileByUsername',
          tags: ['Profile'],
          params: Name,
          response: { 200: OneProfile, 401: Errors, 404: Errors, ...failures },
        },
      },
      async (request) => asProfile(await profileNamed(data, request.params.username, await viewerOf(request, self))),
    )

    const following = (operationId: string) => ({
      operationId,
      tags: ['Profile'],
      security,
      params: Name,
      response: { 200: OneProfile, 401: Errors, 404: Errors, ...failures },
    })
    http.post('/api/profiles/:username/follow', { schema: following('FollowUserByUsername') }, async (request) =>
      asProfile(await follow(data, await signedIn(request, self), request.params.username)),
    )
    http.delete('/api/profiles/:username/follow', { schema: following('UnfollowUserByUsername') }, async (request) =>
      asProfile(await unfollow(data, await signedIn(request, self), request.params.username)),
    )
  },
})

/** The module's own routes need no call to know who asks. */
function ownAuthentication(tokens: Tokens): Authenticate {
  return {
    async authenticate({ token }) {
      const accountId = await tokens.verify(token)
      return accountId === undefined ? null : { accountId }
    },
  }
}
