export default function DecisionsPage() { return <h1>DecisionsPage</h1> }
