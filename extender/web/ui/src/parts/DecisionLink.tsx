import { Link } from 'react-router'

export function DecisionLink({ id, children }: { id: string; children?: string }) {
  return <Link to={`/decisions/${encodeURIComponent(id)}`}>{children ?? 'decision'}</Link>
}
