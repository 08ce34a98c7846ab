import { Button, PasswordInput } from '@mantine/core'
import { useState, type FormEvent } from 'react'

import { access } from '../api/client.ts'
import { useTitle } from '../api/hooks.ts'
import classes from './states.module.css'

/** Asks for the bearer token that the server wants. It stays in this browser tab and is sent to this server only. */
export function TokenForm() {
  const [token, setToken] = useState('')
  const refused = access.hasToken()
  useTitle('Token needed')
  const enter = (event: FormEvent) => {
    event.preventDefault()
    if (token.trim() !== '') access.enter(token.trim())
  }
  return (
    <form onSubmit={enter} className={`panel ${classes.token}`}>
      <h1>A token is needed</h1>
      <p className="quiet">This server shows the cluster to those who may read it. Make a token with:</p>
      <code className={classes.command}>kubectl create token SERVICE-ACCOUNT -n NAMESPACE</code>
      <PasswordInput
        label="Bearer token"
        description="Kept until this tab is closed. Sent to this server only."
        value={token}
        onChange={(event) => setToken(event.currentTarget.value)}
        error={refused ? 'The server did not accept the last token: it may be expired.' : undefined}
        autoComplete="off"
        visibilityToggleButtonProps={{ 'aria-label': 'Show the token' }}
      />
      <Button type="submit" disabled={token.trim() === ''}>
        Show the cluster
      </Button>
    </form>
  )
}
