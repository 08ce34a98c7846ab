import { lazy, Suspense, useSyncExternalStore } from 'react'
import { Route, Routes, useLocation } from 'react-router'

import { access } from './api/client.ts'
import { Boundary, Loading, NotFound } from './parts/States.tsx'
import { Shell } from './parts/Shell.tsx'
import { TokenForm } from './parts/TokenForm.tsx'
import { ClusterPage } from './pages/cluster/ClusterPage.tsx'

const NodePage = lazy(() => import('./pages/node/NodePage.tsx'))
const PodsPage = lazy(() => import('./pages/pod/PodsPage.tsx'))
const PodPage = lazy(() => import('./pages/pod/PodPage.tsx'))
const DecisionsPage = lazy(() => import('./pages/decisions/DecisionsPage.tsx'))
const DecisionPage = lazy(() => import('./pages/decisions/DecisionPage.tsx'))
const WhatIfPage = lazy(() => import('./pages/what_if/WhatIfPage.tsx'))

/** All pages. Where the server asks for a token, its form stands in the place of the page. */
export function App() {
  const tokenNeeded = useSyncExternalStore(access.subscribe, access.tokenNeeded)
  const { pathname } = useLocation()
  return (
    <Shell>
      {tokenNeeded ? (
        <TokenForm />
      ) : (
        <Boundary place={pathname}>
          <Suspense fallback={<Loading what="the page" />}>
            <Routes>
              <Route path="/" element={<ClusterPage />} />
              <Route path="/nodes/:name" element={<NodePage />} />
              <Route path="/pods" element={<PodsPage />} />
              <Route path="/pods/:namespace/:name" element={<PodPage />} />
              <Route path="/decisions" element={<DecisionsPage />} />
              <Route path="/decisions/:id" element={<DecisionPage />} />
              <Route path="/what-if" element={<WhatIfPage />} />
              <Route path="*" element={<NotFound />} />
            </Routes>
          </Suspense>
        </Boundary>
      )}
    </Shell>
  )
}
