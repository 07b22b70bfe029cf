import type { FastifyRequest } from 'fastify'
import { defineModule, on } from 'rung'
import { AvatarChanged } from '../avatars/events.ts'
import { Envelope, Errors, failures } from '../schemas.ts'
import { onlySignedIn, signedIn, viewerOf } from '../viewer.ts'
import { type Account, findAccount, logIn, register, setAvatar, updateAccount } from './accounts.ts'
import { authentication } from './authentication.ts'
import { answers } from './calls.ts'
import { identityCalls } from './contract.ts'
import { signUpLimit } from './passwords.ts'
import { follow, type ProfileRow, profileNamed, unfollow } from './profiles.ts'
import { Login, Name, NewUser, OneProfile, OneUser, UserChanges } from './shapes.ts'
import { isFresh, secondsNow } from './tokens.ts'

/** Users, login, profiles and who follows whom. */
export const identity = defineModule({
  name: 'identity',
  owner: 'accounts',
  migrations: new URL('./migrations/', import.meta.url),

  exposes: identityCalls,
  calls: (context) => answers(context, authentication(context)),

  work: () => [on(AvatarChanged, ({ payload }, tx) => setAvatar(tx, payload))],

  identify: (context) => {
    const self = authentication(context)
    return async (request) => {
      const token = await self.tokenOf(request)
      return token && { id: String(token.accountId) }
    }
  },

  routes(http, context) {
    const { data, sessions } = context
    const self = authentication(context)
    const asUser = async ({ username, email, bio, image, id, generation }: Account, signedInAt = secondsNow()) => ({
      user: { username, email, bio, image, token: await self.issue({ accountId: id, generation, signedInAt }) },
    })
    const signedInAt = async (request: FastifyRequest) => (await self.tokenOf(request))?.signedInAt ?? 0
    const asProfile = ({ username, bio, image, following }: ProfileRow) => ({
      profile: { username, bio, image, following },
    })
    const security = [{ token: [] }]

    http.post(
      '/api/users',
      {
        config: { limits: signUpLimit },
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
      async (request) => asUser(await findAccount(data, await signedIn(request, self)), await signedInAt(request)),
    )

    http.put(
      '/api/user',
      {
        schema: {
          operationId: 'UpdateCurrentUser',
          tags: ['User and Authentication'],
          security,
          body: Envelope('user', UserChanges),
          response: { 200: OneUser, 401: Errors, 403: Errors, 409: Errors, ...failures },
        },
        preValidation: onlySignedIn(self),
        config: { login: () => undefined }, // a wrong password counts as a sign-in that failed
      },
      async (request) => {
        const [accountId, since] = [await signedIn(request, self), await signedInAt(request)]
        const proof = { isFresh: isFresh(since) }
        return asUser(await updateAccount({ data, sessions }, accountId, request.body.user, proof), since)
      },
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
